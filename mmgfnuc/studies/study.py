"""What a study is: which arms are compared, on which data, for how long."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from mmgfnuc.errors import UserError
from mmgfnuc.names import find_name, plain_name
from mmgfnuc.presets import list_presets
from mmgfnuc.shipped import configs_folder

# What an arm is made of. A list in the place of a value stands for one arm for each entry, null for the default.
ARM_KEYS = ('unet', 'foundation', 'fusion', 'weights', 'head', 'parts', 'label')
PRESET_KINDS = {'unet': 'unets', 'fusion': 'fusion', 'head': 'heads'}
# Stands for every foundation encoder whose weights are here.
PRESENT = 'present'
NO_FUSION = 'none'
# What of an arm has a meaning only with a fusion.
FUSED_KEYS = ('foundation', 'weights')
FUSED_PARTS = ('foundation', 'neck')


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A model by the names of its parts, as `mmgfnuc.create_model` takes them.

    Its `label` is only said: it ends the name of an arm that differs from another in nothing but `parts`.
    """

    unet: str = 'unet'
    foundation: str | None = None
    fusion: str = NO_FUSION
    weights: str | None = None
    head: str = 'semantic'
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    label: str | None = None

    @property
    def name(self) -> str:
        """Its parts that tell it from others, such as `unet/context/vit-tiny/semantic`."""
        encoder = f'{self.foundation}:{self.weights}' if self.weights else self.foundation
        return '/'.join(filter(None, (self.unet, self.fusion, encoder, self.head, self.label)))

    @property
    def encoder_weights(self) -> str | None:
        """Weights of the encoder, in whichever place they are named; None for those of its entry."""
        return self.parts.get('foundation', {}).get('weights', self.weights)


@dataclass(frozen=True, kw_only=True)
class Study:
    """Arms that are compared under equal conditions.

    Attributes:
        title: of the report.
        arms: the first is the baseline.
        data: presets of `configs/_base_/datasets`, such as `nuinsseg`: reading, augmentation, resolution, metrics.
        data_root: folder of the data set in the canonical form, where there is only one; by default that of the preset.
        splits: names of files in `splits/` of each data set, one for each fold.
        seeds: of weights, order and augmentation.
        steps: of the optimiser, the same for every arm.
        batch_size: images of a step.
        amp: train under bfloat16 autocast.
        remark: what a reader must know besides; it ends the conclusion.
    """

    title: str
    arms: tuple[Arm, ...]
    data: tuple[str, ...] = ('nuinsseg',)
    data_root: str | None = None
    splits: tuple[str, ...] = ('organs',)
    seeds: tuple[int, ...] = (0,)
    steps: int = 300
    batch_size: int = 4
    amp: bool = False
    remark: str = ''


def make_study(settings: Mapping[str, Any]) -> Study:
    """Make a study of what its file says.

    Raises:
        UserError: a key is unknown or missing, a value is of another kind than it should be, two arms have one name, or
            the weights of no encoder are here where those that are were asked for.
    """
    known = {entry.name for entry in fields(Study)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(f"a study has no '{unknown[0]}'; it takes {', '.join(sorted(known))}")
    rest: dict[str, Any] = {key: _as_tuple(value) for key, value in settings.items() if value is not None}
    groups = rest.pop('arms', None)
    if 'title' not in rest or not isinstance(groups, tuple) or not groups:
        raise UserError('a study needs a title and arms, such as arms=[dict(unet="unet")]')
    if isinstance(rest.get('data'), str):
        rest['data'] = (rest['data'],)
    study = Study(**rest, arms=tuple(arm for group in groups for arm in _arms_of(group)))
    _check(study)
    return study


def _check(study: Study) -> None:
    names = [arm.name for arm in study.arms]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"arm '{min(twice)}' is there twice; drop one, or tell them apart by a label")
    for name in ('steps', 'batch_size'):
        value = getattr(study, name)
        if not _is_whole(value, 1):
            raise UserError(f'{name}={value!r}: give a whole number from 1')
    for name in ('data', 'splits', 'seeds'):
        value = getattr(study, name)
        if not isinstance(value, tuple) or not value or any(value.count(entry) > 1 for entry in value):
            raise UserError(f'{name}={value!r}: give a list without repetition, at least one')
    for name in ('data', 'splits'):
        for value in getattr(study, name):
            if not isinstance(value, str):
                raise UserError(f'{name}: {value!r} is not a name; give text')
    for value in study.seeds:
        if not _is_whole(value, 0):
            raise UserError(f'seeds: {value!r} is not a seed; give whole numbers from 0')
    if not isinstance(study.amp, bool):
        raise UserError(f'amp={study.amp!r}: give true or false')
    if study.data_root and len(study.data) > 1:
        raise UserError(
            f"data_root='{study.data_root}' is the folder of one data set, and data names {len(study.data)}; drop it"
        )


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least  # True is an int, too


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _arms_of(group: Any) -> list[Arm]:
    """Make an arm of each combination of what a group lists; those that come out the same are one."""
    if not isinstance(group, Mapping):
        raise UserError(f'arms: {group!r} is not an arm; give its settings, such as dict(unet="unet")')
    unknown = sorted(set(group) - set(ARM_KEYS))
    if unknown:
        raise UserError(f"an arm has no '{unknown[0]}'; it takes {', '.join(ARM_KEYS)}")
    if not isinstance(group.get('label'), str | None):
        raise UserError(f'label={group["label"]!r}: give one text, it ends the name of an arm')
    choices = {key: _choices(key, value) for key, value in group.items()}
    if PRESENT in choices.get('foundation', ()):
        choices['foundation'] = _with_present(choices['foundation'])
    arms: list[Arm] = []
    for values in itertools.product(*choices.values()):
        settings = {key: value for key, value in zip(choices, values, strict=True) if value is not None}
        # Alone, an encoder without a fusion is a mistake, which is told when the model is made.
        if len(choices.get('fusion', ())) > 1 and settings.get('fusion', NO_FUSION) == NO_FUSION:
            settings = _without_fusion(settings)
        arm = Arm(**settings)
        if arm not in arms:
            arms.append(arm)
    return arms


def _choices(key: str, value: Any) -> list[Any]:
    """What an arm may take for a key, under the names that `mmgfnuc.create_model` finds for the given ones."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise UserError(f'{key}={value!r}: give a value, or a list of at least one')
    return [None if one is None else _checked(key, one) for one in values]


def _checked(key: str, value: Any) -> Any:
    if key == 'parts':
        return _checked_parts(value)
    if not isinstance(value, str):
        raise UserError(f'{key}={value!r}: give a name')
    if key in PRESET_KINDS:
        return find_name(key, value, list_presets(PRESET_KINDS[key]))
    if key == 'foundation' and ':' not in value:  # names of other libraries, such as timm:vit_tiny, stay as they are
        return plain_name(value)
    return value


def _checked_parts(parts: Any) -> Mapping[str, Any]:
    named = {'parts': parts}
    if isinstance(parts, Mapping):
        named = {f'parts.{part}': value for part, value in parts.items()}
    for name, value in named.items():
        if not isinstance(value, Mapping):
            raise UserError(f"{name}={value!r}: give settings, such as parts={{'backbone': {{'widths': [16, 32]}}}}")
    return parts


def _with_present(names: Sequence[Any]) -> list[Any]:
    from .preparation import encoders_at_hand  # it imports PyTorch, which a study without `present` does not need

    return [one for name in names for one in (encoders_at_hand() if name == PRESENT else [name])]


def _without_fusion(settings: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in settings.items() if key not in FUSED_KEYS}
    if 'parts' in rest:
        rest['parts'] = {part: value for part, value in rest['parts'].items() if part not in FUSED_PARTS}
    return rest


def list_studies() -> dict[str, Path]:
    """Name -> file of the ready studies, `configs/studies`, in a clone as in an installed wheel."""
    files = (path for path in (configs_folder() / 'studies').iterdir() if path.suffix in ('.yaml', '.py'))
    return {path.stem: path for path in sorted(files)}


def find_study(study: str) -> Path:
    """Find the file of a study: a path, or the name of a ready one.

    Raises:
        UserError: there is neither; names near ones.
    """
    if Path(study).is_file():
        return Path(study)
    ready = list_studies()
    return ready[find_name('study', study, ready, f'give a .yaml or .py file, or one of {", ".join(ready)}')]


def read_study(path: str | Path, changes: Mapping[str, Any] | None = None) -> Study:
    """Read a study from a YAML file, or from a Python file that sets its attributes as variables.

    Args:
        path: of the file.
        changes: settings that take the place of those of the file.

    Raises:
        UserError: there is no such file, or it is not a valid study.
    """
    return make_study({**read_settings(path), **(changes or {})})


def read_settings(path: str | Path) -> Mapping[str, Any]:
    """Read what the file of a study says, as it stands there.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"study '{path}' is not there; give a .yaml or .py file, such as one of configs/studies/")
    try:
        settings = _read_python(path) if path.suffix == '.py' else yaml.safe_load(path.read_text('utf-8'))
    except Exception as error:  # a Python file fails in any way that Python does
        raise UserError(f"study '{path}' cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(settings, Mapping):
        raise UserError(f"study '{path}' holds no settings; see configs/studies/ for an example")
    return settings


def _read_python(path: Path) -> Mapping[str, Any]:
    from mmengine.config import Config

    return Config.fromfile(path).to_dict()
