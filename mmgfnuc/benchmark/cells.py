"""The cells of a study: one config for each arm, split and seed, known by what it depends on."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mmgfnuc
from mmgfnuc.datasets.canonical import list_splits
from mmgfnuc.errors import UserError
from mmgfnuc.models.create import list_presets, model_config

from .study import Arm, Study

SCHEDULE = 'adam_steps'
KEY_LENGTH = 12
UNHASHED = {'analysis', 'benchmark', '.mim'}


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        arm: what is trained.
        split: fold that it is trained and scored on.
        seed: of the run.
        config: all that the run does, as text that MMEngine reads.
        key: of config, code and data: two cells with one key give the same scores.
    """

    arm: Arm
    split: str
    seed: int
    config: str
    key: str

    @property
    def name(self) -> str:
        """For a reader."""
        return f'{self.arm.name} {self.split} seed {self.seed}'


def study_cells(study: Study) -> list[Cell]:
    """Make the cells of a study: all arms of one seed and split, then the next.

    Raises:
        UserError: a part, a preset or a split does not exist.
    """
    root = _data_root(study)
    missing = [split for split in study.splits if split not in list_splits(root)]
    if missing:
        raise UserError(f"split='{missing[0]}': {root} has {', '.join(list_splits(root)) or 'none'}")
    digest = f'{code_digest()}{data_digest(root)}'
    return [
        _cell(study, arm, split, seed, digest) for seed in study.seeds for split in study.splits for arm in study.arms
    ]


def _cell(study: Study, arm: Arm, split: str, seed: int, digest: str) -> Cell:
    config = cell_config(study, arm, split, seed).pretty_text
    key = hashlib.sha256(f'{config}{digest}'.encode()).hexdigest()[:KEY_LENGTH]
    return Cell(arm, split, seed, config, key)


def cell_config(study: Study, arm: Arm, split: str, seed: int) -> Config:
    """Compose the config of a cell from the presets of `configs/_base_`."""
    cfg = {**_preset('datasets', study.data), **_preset('schedules', SCHEDULE)}
    model = model_config(
        arm.unet,
        arm.foundation,
        arm.fusion,
        arm.head,
        num_classes=2,
        in_channels=3,
        weights=arm.weights,
        parts=arm.parts,
    )
    cfg['model'] = {**model, 'test_cfg': cfg['inference']}
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader']['dataset']
        dataset.update(data_root=str(_data_root(study)), split=split)
        if model.get('partner_context'):
            dataset['partner_images'] = True
    target = _preset('heads', arm.head)['target']
    if target is not None:
        cfg['train_dataloader']['dataset']['pipeline'].insert(-1, target)
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
    return Config(cfg)


def _data_root(study: Study) -> Path:
    preset = _preset('datasets', study.data)
    return Path(study.data_root or preset['train_dataloader']['dataset']['data_root'])


def _preset(kind: str, name: str) -> dict[str, Any]:
    presets = list_presets(kind)
    key = name.replace('_', '-')
    if key not in presets:
        raise UserError(f"'{name}' is none of the presets of {kind}; choose one of {', '.join(presets)}")
    return Config.fromfile(presets[key]).to_dict()


@cache
def code_digest() -> str:
    """SHA-256 of the package's Python files that a score can depend on, beside config and data.

    What only reads scores or arranges runs is left out, so that a better report does not cost a new study.
    """
    package = Path(mmgfnuc.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob('*.py')):
        name = path.relative_to(package)
        if name.parts[0] not in UNHASHED:
            digest.update(str(name).encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def data_digest(root: Path) -> str:
    """SHA-256 of every file of a data set, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob('*') if path.is_file()):
        digest.update(str(path.relative_to(root)).encode())
        with path.open('rb') as file:
            digest.update(hashlib.file_digest(file, 'sha256').digest())
    return digest.hexdigest()


def describe(cell: Cell) -> str:
    """What a cell is, as JSON for the folder of its run."""
    arm = {**vars(cell.arm), 'name': cell.arm.name}
    return json.dumps({'arm': arm, 'split': cell.split, 'seed': cell.seed, 'key': cell.key}, indent=1) + '\n'
