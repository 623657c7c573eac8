"""What a study is: which arms are compared, on which data, for how long."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from mmgfnuc.errors import UserError

# What an arm is made of. A list in the place of a value stands for one arm for each entry.
ARM_KEYS = ('unet', 'foundation', 'fusion', 'weights', 'head', 'parts')


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A model by the names of its parts, as `mmgfnuc.create_model` takes them."""

    unet: str = 'unet'
    foundation: str | None = None
    fusion: str = 'none'
    weights: str | None = None
    head: str = 'semantic'
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its parts that tell it from others, such as `unet/context/vit-tiny/semantic`."""
        encoder = f'{self.foundation}:{self.weights}' if self.weights else self.foundation
        return '/'.join(filter(None, (self.unet, self.fusion, encoder, self.head)))


@dataclass(frozen=True, kw_only=True)
class Study:
    """Arms that are compared under equal conditions.

    Attributes:
        title: of the report.
        arms: the first is the baseline.
        data: preset of `configs/_base_/datasets`, such as `nuinsseg`: reading, augmentation, resolution, metrics.
        data_root: folder of the data set in the canonical form; by default that of the preset.
        splits: names of files in `splits/`, one for each fold.
        seeds: of weights, order and augmentation.
        steps: of the optimiser, the same for every arm.
        batch_size: images of a step.
        amp: train under bfloat16 autocast.
    """

    title: str
    arms: tuple[Arm, ...]
    data: str = 'nuinsseg'
    data_root: str | None = None
    splits: tuple[str, ...] = ('organs',)
    seeds: tuple[int, ...] = (0,)
    steps: int = 300
    batch_size: int = 4
    amp: bool = False


def make_study(settings: Mapping[str, Any]) -> Study:
    """Make a study of what its file says.

    Raises:
        UserError: a key is unknown or missing, a value is of another kind than it should be, or two arms are the same.
    """
    known = {entry.name for entry in fields(Study)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(f"a study has no '{unknown[0]}'; it takes {', '.join(sorted(known))}")
    if 'title' not in settings or not settings.get('arms'):
        raise UserError('a study needs a title and arms, such as arms=[dict(unet="unet")]')
    arms = tuple(arm for group in settings['arms'] for arm in _arms_of(group))
    names = [arm.name for arm in arms]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"arm '{min(twice)}' is there twice; drop one, arms are told apart by their names")
    rest: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items() if key != 'arms'
    }
    study = Study(**rest, arms=arms)
    for name in ('steps', 'batch_size'):
        value = getattr(study, name)
        if not isinstance(value, int) or value < 1:
            raise UserError(f'{name}={value!r}: give a whole number from 1')
    for name in ('splits', 'seeds'):
        value = getattr(study, name)
        if not isinstance(value, tuple) or not value or len(set(value)) < len(value):
            raise UserError(f'{name}={value!r}: give a list without repetition, at least one')
    return study


def _arms_of(group: Mapping[str, Any]) -> list[Arm]:
    unknown = sorted(set(group) - set(ARM_KEYS))
    if unknown:
        raise UserError(f"an arm has no '{unknown[0]}'; it takes {', '.join(ARM_KEYS)}")
    choices = [value if isinstance(value, list | tuple) else [value] for value in group.values()]
    return [Arm(**dict(zip(group, values, strict=True))) for values in itertools.product(*choices)]


def read_study(path: str | Path) -> Study:
    """Read a study from a YAML file, or from a Python file that sets its attributes as variables.

    Raises:
        UserError: there is no such file, or it is no valid study.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"study '{path}' is not there; give a .yaml or .py file, such as one of configs/studies/")
    try:
        settings = Config.fromfile(path).to_dict() if path.suffix == '.py' else yaml.safe_load(path.read_text())
    except Exception as error:  # a Python file fails in any way that Python does
        raise UserError(f"study '{path}' cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(settings, Mapping):
        raise UserError(f"study '{path}' holds no settings; see configs/studies/ for an example")
    return make_study(settings)
