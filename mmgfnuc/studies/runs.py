"""The runs of a study: one config for each arm, data set, split and seed, known by what it depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgfnuc.datasets.canonical import CLASSES, PREPARE_HINT, list_splits, read_meta
from mmgfnuc.engine.provenance import library_versions
from mmgfnuc.errors import UserError
from mmgfnuc.presets import list_presets, model_config, model_parts, read_preset

from .admission import admit_parts
from .arms import Arm
from .identity import SCORED, code_digest, data_digest, digest_of, parts_digest
from .study import Study

# The paper's, of the host: every arm has it, with fusion and without.
BOTTLENECK_DROPOUT = 0.3
KEY_LENGTH = 12
# What the tool draws where it is missing.
DRAWN = 'synthetic'


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        arm: what is trained.
        data: preset of the data set that it is trained and scored on.
        split: fold of the data set.
        seed: of the run.
        config: all that the run does.
        key: of config, code, libraries and data: two runs with one key give the same scores.
        parts: digest of the code of its parts that come from outside; empty without such.
    """

    arm: Arm
    data: str
    split: str
    seed: int
    config: Mapping[str, Any]
    key: str
    parts: str = ''

    @property
    def steps(self) -> int:
        """Of its training."""
        return self.config['train_cfg']['max_iters']

    @property
    def imports(self) -> Sequence[str]:
        """Modules with parts of one's own that its process imports."""
        return self.config.get('custom_imports', {}).get('imports', ())

    @property
    def name(self) -> str:
        """For a reader."""
        return f'{self.arm.name} {self.split} seed {self.seed} on {self.data}'


def study_runs(study: Study, root: str | Path) -> list[Run]:
    """Make the runs of a study: all arms of one split, all splits of one data set, all data sets of one seed.

    Args:
        study: whose runs.
        root: folder of the runs; see `manifests` for what is kept beside it.

    Raises:
        UserError: a part, a preset or a split does not exist.
    """
    digests = {data: _checked_digest(study, data, manifests(root)) for data in study.data}
    return [
        _run(study, arm, split, seed, data, digests[data])
        for seed in study.seeds
        for data in study.data
        for split in study.splits
        for arm in study.arms
    ]


def manifests(root: str | Path) -> Path:
    """Where the manifests of data sets are kept, beside the folder of the runs."""
    return Path(root).parent / 'manifests'


def _checked_digest(study: Study, data: str, folder: Path) -> str:
    root = data_root(study, data)
    if not root.is_dir():
        hint = 'it is drawn when the study is run' if data == DRAWN else PREPARE_HINT.format(root=root)
        raise UserError(f"data='{data}': folder {root} is not there; {hint}")
    missing = [split for split in study.splits if split not in list_splits(root)]
    if missing:
        there = ', '.join(list_splits(root)) or 'none'
        raise UserError(f"split='{missing[0]}': {root} has {there}; choose one, or write it with prepare.py (--folds)")
    return data_digest(root, folder)


def _run(study: Study, arm: Arm, split: str, seed: int, data: str, digest: str) -> Run:
    config = run_config(study, arm, split, seed, data)
    admit_parts(config, study.imports)
    parts = parts_digest(config)
    key = digest_of(config, digest, code_digest(*SCORED), library_versions(), *filter(None, [parts]))[:KEY_LENGTH]
    if study.imports:
        config['custom_imports'] = {'imports': list(study.imports), 'allow_failed_imports': False}
    return Run(arm, data, split, seed, config, key, parts)


def run_config(study: Study, arm: Arm, split: str, seed: int, data: str | None = None) -> dict[str, Any]:
    """Compose the config of a run from the presets of `configs/_base_`.

    Args:
        study: whose conditions hold.
        arm: what is trained.
        split: fold of the data set.
        seed: of the run.
        data: preset of the data set; by default the first of the study.

    Raises:
        UserError: a part or a preset does not exist.
    """
    data = data or study.data[0]
    cfg = {**_preset('datasets', data), **_schedule(study, arm)}
    datasets = [cfg[f'{part}_dataloader']['dataset'] for part in ('train', 'val', 'test')]
    if arm.augmentation:
        augmentation = _preset('augmentations', arm.augmentation)
        for dataset, part in zip(datasets, ('train', 'test', 'test'), strict=True):
            dataset['pipeline'] = augmentation[f'{part}_pipeline']
        cfg['inference'] = augmentation['inference']
    # A preset may also say so itself, such as `synthetic_typed`.
    types = study.types or datasets[0].get('types', False)
    parts = model_parts(
        arm.unet,
        arm.foundation,
        arm.fusion,
        arm.head,
        num_classes=len(_classes(data_root(study, data)) if types else CLASSES),
        in_channels=3,
        weights=arm.weights,
        parts=arm.parts,
    )
    model = model_config(parts)
    if arm.control:
        _add_control(model, arm)
    cfg['model'] = {**model, 'bottleneck_dropout': BOTTLENECK_DROPOUT, 'test_cfg': cfg['inference']}
    for dataset in datasets:
        dataset.update(data_root=str(data_root(study, data)), split=split)
        if types:
            dataset['types'] = True
        if model.get('partner_context'):
            dataset['partner_images'] = True
    cfg['train_dataloader'].update(batch_size=study.batch_size, num_workers=1)
    cfg['train_dataloader']['dataset']['seed'] = seed
    cfg['train_cfg']['max_iters'] = study.steps
    cfg['randomness'] = {'seed': seed}
    if study.amp:
        cfg['optim_wrapper']['type'] = 'mmgfnuc.BFloat16OptimWrapper'
    # The last checkpoint is scored once, at the end.
    for name in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        cfg[name] = None
    cfg['train_cfg'].pop('val_interval')
    return _changed(cfg, arm)


def _changed(cfg: dict[str, Any], arm: Arm) -> dict[str, Any]:
    if not arm.changes:
        return cfg
    from mmengine.config import Config  # both import PyTorch, which `mmgfnuc benchmark --help` does not need

    from mmgfnuc.engine.config import apply_options

    config = Config(cfg)
    apply_options(config, arm.changes, f"arm '{arm.name}': changes")
    return config.to_dict()


def _add_control(model: dict[str, Any], arm: Arm) -> None:
    """Take from a fusion what the encoder sees in the image, or where, as presets of controls do."""
    neck = model.get('neck')
    if not neck or neck.get('control') or model.get('partner_context'):
        is_what = 'is a control already' if neck else 'gets nothing of an encoder'
        raise UserError(f"control='{arm.control}': fusion='{arm.fusion}' {is_what}; drop it, or take another fusion")
    if arm.control == 'image':
        model['partner_context'] = True
    else:
        neck['control'] = arm.control


def _schedule(study: Study, arm: Arm) -> dict[str, Any]:
    cfg = _preset('schedules', arm.schedule)
    if 'max_iters' not in cfg['train_cfg']:
        counting = ', '.join(name for name in list_presets('schedules') if name.endswith('-steps'))
        raise UserError(f"schedule='{arm.schedule}' counts epochs, and a study counts steps; take one of {counting}")
    schedulers = cfg['param_scheduler']
    warm_up = max((each.get('end', 0) for each in schedulers), default=0) if isinstance(schedulers, list) else 0
    if warm_up >= study.steps:
        raise UserError(
            f"steps={study.steps}: schedule='{arm.schedule}' warms up for {warm_up} steps; give more, or another one"
        )
    if arm.lr is not None:
        cfg['optim_wrapper']['optimizer']['lr'] = arm.lr
    return cfg


def _classes(root: Path) -> list[str]:
    classes = read_meta(root)['classes']
    if len(classes) <= len(CLASSES):
        raise UserError(f'types=True: {root} has no nucleus types, its classes are {", ".join(classes)}; drop types')
    return classes


def data_root(study: Study, data: str) -> Path:
    """Folder of a data set of a study.

    Raises:
        UserError: there is no such preset.
    """
    preset = _preset('datasets', data)
    return Path(study.data_root or preset['train_dataloader']['dataset']['data_root'])


def _preset(kind: str, name: str) -> dict[str, Any]:
    return read_preset(kind, 'data' if kind == 'datasets' else kind, name)


def describe(run: Run) -> dict[str, Any]:
    """What a run is, for the folder that it works in."""
    arm = {**vars(run.arm), 'name': run.arm.name}
    return {'arm': arm, 'parts': run.parts, 'data': run.data, 'split': run.split, 'seed': run.seed, 'key': run.key}
