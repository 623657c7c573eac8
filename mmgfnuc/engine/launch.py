"""From a config to a training or test run: what the commands `train` and `test` do."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.canonical import CLASSES, read_meta
from mmgfnuc.datasets.transforms import Rescale
from mmgfnuc.datasets.validate import check_dataset
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.per_image_metric import PerImageMetric
from mmgfnuc.files import output_lock
from mmgfnuc.inference.checkpoint import read_checkpoint, weights_from_checkpoint
from mmgfnuc.inference.preprocessing import read_preprocessing, use_resolution
from mmgfnuc.models.parts import class_of
from mmgfnuc.models.segmentors import FusionSegmentor
from mmgfnuc.registry import DATASETS, METRICS, MODELS, TRANSFORMS

from .cli import notice
from .distributed import is_first_process
from .hooks import ProgressHook, ResumedScheduleHook
from .logs import end_logs_at_full_disk
from .preflight import rehearse
from .screen import ScreenRunner
from .settings import check_settings
from .targets import with_pipeline
from .tested import write_tested

PARTS = ('train', 'val', 'test')
# Of the working folder: scores and log of a test.
TEST_FOLDER = 'test'


def use_data(cfg: Config, root: str | None, split: str | None, parts: Sequence[str] = PARTS) -> None:
    """Read the named parts from another data set, or another split of it; None keeps the config's.

    What is not a group of settings with a known type is left to `check_settings`.

    Raises:
        UserError: a part is read by something else than `NucleiDataset`, so that it has no such settings.
    """
    given = {name: value for name, value in (('data_root', root), ('split', split)) if value is not None}
    for part in parts:
        loader = cfg.get(f'{part}_dataloader')
        dataset: Any = loader.get('dataset') if isinstance(loader, Mapping) else None
        kind = class_of(dataset, DATASETS)
        if not kind or not given:
            continue
        if kind is not NucleiDataset:
            raise UserError(
                f'--data and --split set data_root and split of a NucleiDataset, and {part}_dataloader.dataset is a '
                f'{_name(dataset.type)}; change its own settings by --cfg-options, or name another config'
            )
        dataset.update(given)


def check_data(cfg: Config, *parts: str) -> None:
    """Check every data set that the named dataloaders read, once; all faults are reported together.

    A notice says where a set has nucleus types that the config takes for one class.

    Raises:
        UserError: one line for each bad file.
    """
    if not is_first_process():
        return
    datasets = [cfg[f'{part}_dataloader'].dataset for part in parts if cfg.get(f'{part}_dataloader')]
    ours = [dataset for dataset in datasets if _is_ours(dataset)]
    for root, split in {(dataset.data_root, dataset.get('split')) for dataset in ours}:
        check_dataset(root, split)
    for root in {dataset.data_root for dataset in ours if not dataset.get('types')}:
        classes = read_meta(root)['classes']
        if len(classes) > len(CLASSES):
            notice(
                f'{root} has {len(classes) - 1} nucleus types ({", ".join(classes[1:])}), which this config takes for '
                'one class; to tell them apart set types=True in the datasets and '
                f'model.decode_head.num_classes={len(classes)}'
            )


def check_resolution(cfg: Config) -> None:
    """Tell where a model is trained at another resolution than it predicts at: `Rescale` against `test_cfg.scale`."""
    if class_of(cfg.model, MODELS) is not FusionSegmentor:
        return
    scale = (cfg.model.get('test_cfg') or {}).get('scale') or 1.0
    for group in with_pipeline(cfg.train_dataloader):
        factors = [step.factor for step in group['pipeline'] if class_of(step, TRANSFORMS) is Rescale]
        if not math.isclose(math.prod(factors), scale):
            notice(
                f'the training images are scaled by {math.prod(factors):g} (Rescale), those of predictions by '
                f'{scale:g} (model.test_cfg.scale); where both have pixels of one size, give one factor'
            )


def check_types(cfg: Config, checkpoint: Mapping[str, Any]) -> None:
    """Compare the nucleus types of a checkpoint with those of the data it is tested on.

    Raises:
        UserError: they have other names or another order, so that scores would compare different types.
    """
    dataset, known = cfg.test_dataloader.dataset, checkpoint['meta']['dataset_meta'].get('classes', ())
    if _is_ours(dataset) and dataset.get('types') and len(known) > len(CLASSES):
        classes = read_meta(dataset.data_root)['classes']
        if list(classes) != list(known):
            raise UserError(
                f'the checkpoint has the types {", ".join(known[1:])}, and {dataset.data_root} has '
                f'{", ".join(classes[1:])}: the scores would compare different types; test on data of the same types, '
                'in the same order, or prepare these again with the names of the checkpoint'
            )


def _is_ours(dataset: dict) -> bool:
    return class_of(dataset, DATASETS) is NucleiDataset


def _name(kind: str | type) -> str:
    return kind if isinstance(kind, str) else kind.__name__


@contextmanager
def _alone_in(*folders: str | Path) -> Iterator[None]:
    """Let no other run write to these folders; of several processes the first holds the locks."""
    with ExitStack() as locks:
        for folder in folders if is_first_process() else ():
            locks.enter_context(output_lock(folder))
        yield


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, whose settings are checked; it writes to the working folder."""
    runner = ScreenRunner.from_cfg(cfg)
    end_logs_at_full_disk(runner.logger)
    return runner


def train(cfg: Config) -> Runner:
    """Check the settings and the data, then train; without validation where the config has none."""
    parts = ('train', 'val') if cfg.get('val_cfg') else ('train',)
    check_settings(cfg, *parts)
    check_data(cfg, *parts)
    check_resolution(cfg)
    rehearse(cfg, *parts)
    with _alone_in(cfg.work_dir):
        runner = build_runner(cfg)
        runner.register_hook(ResumedScheduleHook())
        runner.register_hook(ProgressHook(parts))
        with warnings.catch_warnings():
            # Schedules count batches: where gradients are accumulated they step before the optimiser does.
            warnings.filterwarnings('ignore', message='Detected call of `scheduler.step')
            runner.train()
    return runner


def test(cfg: Config, checkpoint: str, out: str | None = None, show_dir: str | None = None) -> dict[str, float]:
    """Score a checkpoint on the test part; they also go to `<work_dir>/test/`, `tested.json` says what they are of.

    Raises:
        UserError: the checkpoint is missing, damaged, or does not fit the config's model or the types of the data;
            another run writes to one of the folders.
    """
    check_settings(cfg, 'test')
    saved = read_checkpoint(checkpoint)
    check_data(cfg, 'test')
    check_types(cfg, saved)
    preprocessing = read_preprocessing(saved['meta']['preprocessing'], f"checkpoint '{checkpoint}'")
    # The config may be that of a run that was resumed.
    cfg.load_from, cfg.resume = checkpoint, False
    folders = _report_folders(cfg)
    # MMEngine writes its config and log into the working folder, where those of the training lie.
    cfg.work_dir = str(Path(cfg.work_dir) / TEST_FOLDER)
    if out or show_dir:
        hook = dict(type='mmgfnuc.PredictionHook', out_dir=out, show_dir=show_dir)
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]
    with weights_from_checkpoint(cfg):
        rehearse(cfg, 'test')
    with _alone_in(*folders, *filter(None, (out, show_dir))):
        with weights_from_checkpoint(cfg):
            runner = build_runner(cfg)
        use_resolution(runner.model, preprocessing, runner.test_dataloader.dataset)
        runner.register_hook(ProgressHook(['test']))
        scores = runner.test()
        if is_main_process():
            for folder, reports in folders.items():
                write_tested(folder, Path(checkpoint), cfg.test_dataloader.dataset, reports)
    return scores


def _report_folders(cfg: Config) -> dict[Path, list[str]]:
    """Give each metric of this package that has no `out_dir` the run's own; return what is reported to each folder."""
    evaluator: Any = cfg.test_evaluator
    metrics = evaluator.get('metrics', evaluator) if isinstance(evaluator, Mapping) else evaluator
    folders: dict[Path, list[str]] = {}
    for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
        cls = class_of(metric, METRICS)
        if isinstance(cls, type) and issubclass(cls, PerImageMetric):
            folder = Path(metric.setdefault('out_dir', str(Path(cfg.work_dir) / TEST_FOLDER)))
            folders.setdefault(folder, []).append(cls.json_name)
    return folders
