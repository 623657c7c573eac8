"""What a process does for one run: train to the end, from the last checkpoint if there is one, score, look inside.

Called as `python -m mmgfnuc.studies.worker FOLDER`, the folder holding the `config.py` of the run.
"""

import argparse
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmgfnuc.engine import launch
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.engine.preflight import rehearse
from mmgfnuc.engine.provenance import commit, hardware, versions
from mmgfnuc.engine.resume import find_resume, last_checkpoint
from mmgfnuc.engine.settings import check_settings
from mmgfnuc.errors import DivergedError, UserError
from mmgfnuc.extensions import import_parts
from mmgfnuc.files import full_disk_told, read_json, remove_unfinished, waiting_lock, write_json
from mmgfnuc.inference.checkpoint import read_checkpoint
from mmgfnuc.models.foundation.cache import FeatureCache

from .admission import admit_parts
from .identity import parts_digest
from .inside import measure_inside, read_config, read_settings
from .preparation import weights_digest
from .storage import DIVERGENCE, IDENTITY, LOCK, PROGRESS, RECORD, again, is_done, read_report, record_divergence

REPORT_SECONDS = 1.0


def complete_run(folder: Path, cache_gb: float | None = None, imports: Sequence[str] = ()) -> None:
    """Train and score the run of a folder, and look inside its model; what is done of it is not done again.

    `run.json` says where and when it was trained and scored; the file of `measure_inside`, written last, that it is
    done. Where the training diverges there is `diverged.txt` instead, and no score. Another process that works on the
    run is waited for.

    Args:
        folder: of the run.
        cache_gb: limit of the feature cache of all runs, in gigabytes; None for no cache.
        imports: modules with parts of one's own.
    """
    _import_own(folder, imports)
    with full_disk_told(folder), waiting_lock(folder / LOCK):
        if is_done(folder) or (folder / DIVERGENCE).is_file():
            return
        remove_unfinished(folder)
        steps = read_config(folder).train_cfg.max_iters
        try:
            if not (folder / RECORD).is_file():
                _train_and_score(folder, steps, cache_gb)
        except DivergedError as error:
            print(error)
            record_divergence(folder, str(error))
            return
        report(folder, 'looking inside', steps)
        measure_inside(folder)


def _import_own(folder: Path, imports: Sequence[str]) -> None:
    """Import the parts of one's own that a run has.

    Raises:
        UserError: they are not those that the key of the run was made of.
    """
    import_parts(imports)
    config = read_settings(folder).to_dict()
    admit_parts(config, imports)
    if parts_digest(config) != read_json(folder / IDENTITY, again(folder), parts=str)['parts']:
        raise UserError(
            'the code of own parts has changed since the study was started, or another copy of it is found here; start '
            'the study again'
        )


def _train_and_score(folder: Path, steps: int, cache_gb: float | None) -> None:
    cache = _cache_settings(folder, cache_gb)
    found, end = last_checkpoint(folder), folder / f'iter_{steps}.pth'
    if not found or found[0] != end:
        _train(folder, found and found[0], cache)
    report(folder, 'scoring', steps)
    # That of the training: scoring may hold more.
    peak_mb = read_report(folder)['peak_mb']
    start = time.monotonic()
    train_seconds = _score(folder, end, cache)
    record = {
        'train_seconds': train_seconds,
        'test_seconds': time.monotonic() - start,
        'peak_mb': peak_mb,
        'cached': cache is not None,
        'commit': commit(),
        'versions': versions(),
        'hardware': hardware(),
        'weights_sha256': _weights_digest(folder),
    }
    write_json(folder / RECORD, record)


def _train(folder: Path, checkpoint: Path | None, cache: Mapping[str, Any] | None) -> None:
    cfg = read_config(folder)
    find_resume(cfg, str(checkpoint) if checkpoint else None)
    check_settings(cfg, 'train')
    launch.check_data(cfg, 'train')
    rehearse(cfg, 'train')
    runner = launch.build_runner(cfg)
    runner.register_hook(ReportHook(folder))
    if cache:
        # Set here, the folder stays out of the config that goes into checkpoints and to other machines.
        runner.model.foundation.cache = FeatureCache.of(cache)
    runner.train()


def _score(folder: Path, checkpoint: Path, cache: Mapping[str, Any] | None) -> float:
    """Score a checkpoint; return the seconds of its training."""
    cfg = read_config(folder)
    if cache:
        cfg.model.foundation.cache = cache
    launch.test(cfg, str(checkpoint))
    return read_checkpoint(checkpoint)['meta']['train_seconds']


def _weights_digest(folder: Path) -> str | None:
    foundation = read_config(folder).model.get('foundation')
    return weights_digest(foundation) if foundation else None


def _cache_settings(folder: Path, cache_gb: float | None) -> dict[str, Any] | None:
    """Settings of the cache; None without one, or without a frozen encoder."""
    foundation = read_config(folder).model.get('foundation')
    if cache_gb is None or not foundation or foundation.get('tune', 'frozen') != 'frozen':
        return None
    # Half precision would take half the disk, and give other scores than a run without a cache.
    return dict(folder=str(folder.parent.parent / 'features'), dtype='float32', max_gb=cache_gb)


def report(folder: Path, phase: str, step: int) -> None:
    """Say what the process of a run does now, how many steps are trained, and the most memory up to now.

    The memory is that of this process or of an earlier one of the run that was interrupted, whichever had more.
    """
    peak_mb = max(round(_peak_bytes() / 10**6), read_report(folder)['peak_mb'])
    write_json(folder / PROGRESS, {'phase': phase, 'step': step, 'peak_mb': peak_mb}, indent=None)


def _peak_bytes() -> int:
    """Most memory that this process has held: of a GPU its tensors, else all of it."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class ReportHook(Hook):
    """Report the steps of a training, at most one a second.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = 0.0

    def before_train(self, runner: Runner) -> None:
        """Report where the training begins, or goes on."""
        report(self.folder, 'training', runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Report a step."""
        if time.monotonic() - self.last >= REPORT_SECONDS:
            report(self.folder, 'training', runner.iter + 1)
            self.last = time.monotonic()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--cache-gb', type=float)
    parser.add_argument('--imports', nargs='+', default=())
    args = parser.parse_args()
    sys.exit(run_cli(lambda: complete_run(args.folder, args.cache_gb, args.imports)))
