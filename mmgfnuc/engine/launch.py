"""From a config to a training or test run: what tools/train.py and tools/test.py do."""

import hashlib
import json
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.validate import check_dataset
from mmgfnuc.evaluation import PerImageMetric
from mmgfnuc.files import write_text
from mmgfnuc.inference.checkpoint import read_checkpoint, weights_from_checkpoint
from mmgfnuc.registry import DATASETS, METRICS

from .preflight import rehearse
from .settings import check_settings


def check_data(cfg: Config, *parts: str) -> None:
    """Check every data set that the named dataloaders read, once; all faults are reported together.

    Raises:
        UserError: one line for each bad file.
    """
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))):
        return
    datasets = [cfg[f'{part}_dataloader'].dataset for part in parts if cfg.get(f'{part}_dataloader')]
    # A type is a class in a config file, a name in a dumped one.
    classes = [DATASETS.get(dataset.type) if isinstance(dataset.type, str) else dataset.type for dataset in datasets]
    ours = [dataset for dataset, cls in zip(datasets, classes, strict=True) if cls is NucleiDataset]
    for root, split in {(dataset.data_root, dataset.get('split')) for dataset in ours}:
        check_dataset(root, split)


def build_runner(cfg: Config, *parts: str) -> Runner:
    """Build the runner for the named parts, `train`, `val`, `test`, after a rehearsal of all that they need.

    Raises:
        UserError: see `rehearse`.
    """
    rehearse(cfg, *parts)
    return Runner.from_cfg(cfg)


def train(cfg: Config) -> Runner:
    """Check the settings and the data, then train; without validation where the config has none."""
    parts = ('train', 'val') if cfg.get('val_cfg') else ('train',)
    check_settings(cfg, *parts)
    check_data(cfg, *parts)
    runner = build_runner(cfg, *parts)
    runner.train()
    return runner


def test(cfg: Config, checkpoint: str, out: str | None = None, show_dir: str | None = None) -> dict[str, float]:
    """Score a checkpoint on the test part; they also go to `<work_dir>/test/`, `tested.json` says what they are of.

    Raises:
        UserError: the checkpoint is missing, damaged, or does not fit the config's model.
    """
    check_settings(cfg, 'test')
    read_checkpoint(checkpoint)
    check_data(cfg, 'test')
    cfg.load_from = checkpoint
    folders = _report_folders(cfg)
    if out or show_dir:
        hook = dict(type='mmgfnuc.PredictionHook', out_dir=out, show_dir=show_dir)
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]
    with weights_from_checkpoint(cfg):
        runner = build_runner(cfg, 'test')
    scores = runner.test()
    if is_main_process():
        for folder, reports in folders.items():
            _write_tested(folder / 'tested.json', checkpoint, cfg.test_dataloader.dataset, reports)
    return scores


def _report_folders(cfg: Config) -> dict[Path, list[str]]:
    """Give each metric of this package that has no `out_dir` the run's own; return what is reported to each folder."""
    evaluator = cfg.test_evaluator
    folders: dict[Path, list[str]] = {}
    for metric in evaluator if isinstance(evaluator, list | tuple) else [evaluator]:
        # A type is a class in a config file, a name in a dumped one.
        cls = METRICS.get(metric.type) if isinstance(metric.type, str) else metric.type
        if isinstance(cls, type) and issubclass(cls, PerImageMetric):
            folder = Path(metric.setdefault('out_dir', str(Path(cfg.work_dir) / 'test')))
            folders.setdefault(folder, []).append(cls.json_name)
    return folders


def _write_tested(path: Path, checkpoint: str, dataset: dict, reports: list[str]) -> None:
    """Say which checkpoint and data the scores beside this file are of, and which files are of this run."""
    with Path(checkpoint).open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    data = {'data_root': str(dataset['data_root']), 'split': dataset.get('split'), 'part': dataset.get('part')}
    record = {'checkpoint': Path(checkpoint).name, 'sha256': digest, **data, 'reports': reports}
    write_text(path, json.dumps(record, indent=1) + '\n')
