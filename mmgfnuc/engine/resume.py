"""Continuing a run from its last checkpoint."""

from pathlib import Path

from mmengine.config import Config

from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import read_checkpoint

from .cli import notice
from .config import set_seed

POINTER = 'last_checkpoint'


def find_resume(cfg: Config, resume: str | None) -> None:
    """Set a config to continue a run with the run's own seed, from a path or, with `auto`, the last checkpoint.

    Where the working folder has no checkpoint yet, `auto` begins a new run.

    Raises:
        UserError: the checkpoint is missing or damaged, or all those of the working folder are.
    """
    if resume is None:
        return
    path = last_checkpoint(Path(cfg.work_dir)) if resume == 'auto' else Path(resume)
    if path is None:
        notice(f'{cfg.work_dir} has no checkpoint to resume from: a new run begins')
        cfg.resume = False
        return
    cfg.resume, cfg.load_from = True, str(path)
    seed, own = read_checkpoint(path)['meta']['seed'], cfg.get('randomness', {}).get('seed')
    if own not in (None, seed):
        notice(f'the run goes on with its own seed, {seed}; seed {own} of the config or the command line is not used')
    # MMEngine takes the seed over too late for the order of the samples and their augmentation.
    set_seed(cfg, seed)


def last_checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint to resume from: the one that `last_checkpoint` names, else the newest whole one of a folder.

    What is passed over is told. None where the folder has no checkpoint.

    Raises:
        UserError: it has some, and none is whole.
    """
    faults: list[str] = []
    named = _named(folder, faults)
    if named is not None and _step(named, faults) is not None:
        return named
    files = [path for path in sorted(folder.glob('*.pth')) if path != named]
    steps = {path: step for path in files if (step := _step(path, faults)) is not None}
    newest = max(steps, key=lambda path: steps[path], default=None)
    if newest is None and any(folder.glob('*.pth')):
        raise UserError(
            f'{folder} has no checkpoint to resume from ({"; ".join(faults)}); name another one, --resume CHECKPOINT, '
            'or begin anew in another --work-dir'
        )
    for fault in faults:
        notice(f'passed over: {fault}')
    if newest is not None:
        notice(f'resuming from {newest}, the newest checkpoint that is whole (step {steps[newest]:,})')
    return newest


def _named(folder: Path, faults: list[str]) -> Path | None:
    """Read which checkpoint `last_checkpoint` names; in a folder that was moved or copied it is the one beside it."""
    pointer = folder / POINTER
    try:
        text = pointer.read_text(encoding='utf-8', errors='replace').strip()
        for path in (folder / Path(text).name, Path(text)):
            if path.is_file():
                return path
        faults.append(f'{pointer} ' + (f"names '{text[:200]}', which is not there" if text else 'is empty'))
    except FileNotFoundError:
        pass
    except OSError as error:  # no file, or what it holds is no path
        faults.append(f'{pointer} cannot be used ({error.strerror})')
    return None


def _step(path: Path, faults: list[str]) -> int | None:
    """Read the step of a checkpoint that a run can go on from; None for any other file."""
    try:
        saved = read_checkpoint(path)
    except UserError as error:
        faults.append(str(error))
        return None
    if 'optimizer' not in saved:
        faults.append(f"'{path}' holds weights alone, without the state of the optimiser")
        return None
    return saved['meta']['iter']
