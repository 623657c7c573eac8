"""The runs of a study: one config for each arm, data set, split and seed, known by what it depends on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgfnuc.datasets.canonical import PREPARE_HINT, list_splits
from mmgfnuc.engine.provenance import library_versions
from mmgfnuc.errors import UserError
from mmgfnuc.presets import model_config, model_parts, read_preset

from .identity import SCORED, code_digest, data_digest, digest_of
from .study import Arm, Study

SCHEDULE = 'adam_steps'
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
    """

    arm: Arm
    data: str
    split: str
    seed: int
    config: Mapping[str, Any]
    key: str

    @property
    def steps(self) -> int:
        """Of its training."""
        return self.config['train_cfg']['max_iters']

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
    key = digest_of(config, digest, code_digest(*SCORED), library_versions())[:KEY_LENGTH]
    return Run(arm, data, split, seed, config, key)


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
    cfg = {**_preset('datasets', data), **_preset('schedules', SCHEDULE)}
    parts = model_parts(
        arm.unet,
        arm.foundation,
        arm.fusion,
        arm.head,
        num_classes=2,
        in_channels=3,
        weights=arm.weights,
        parts=arm.parts,
    )
    model = model_config(parts)
    cfg['model'] = {**model, 'bottleneck_dropout': BOTTLENECK_DROPOUT, 'test_cfg': cfg['inference']}
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader']['dataset']
        dataset.update(data_root=str(data_root(study, data)), split=split)
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
    return cfg


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
    return {'arm': arm, 'data': run.data, 'split': run.split, 'seed': run.seed, 'key': run.key}
