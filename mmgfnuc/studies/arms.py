"""What a study compares: models by the names of their parts, and how each is trained."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.names import find_name, plain_name
from mmgfnuc.presets import find_preset

# What an arm is made of. A list in the place of a value stands for one arm for each entry, null for the default.
ARM_KEYS = (
    *('unet', 'foundation', 'fusion', 'control', 'weights', 'head', 'parts'),
    *('augmentation', 'schedule', 'lr', 'changes', 'label'),
)
PRESET_KINDS = {
    'unet': 'unets',
    'fusion': 'fusion',
    'head': 'heads',
    'augmentation': 'augmentations',
    'schedule': 'schedules',
}
# Stands for every foundation encoder whose weights are here.
PRESENT = 'present'
NO_FUSION = 'none'
SCHEDULE = 'adam-steps'
# What a fusion may get in the place of what the encoder sees in the image: zeros, its tokens at permuted positions, the
# features of another image.
CONTROLS = ('zero', 'shuffled', 'image')
# What of an arm has a meaning only with a fusion.
FUSED_KEYS = ('foundation', 'control', 'weights')
FUSED_PARTS = ('foundation', 'neck')


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A model by the names of its parts, as `mmgfnuc.create_model` takes them, and how it is trained.

    Its `control` is one of `CONTROLS`, for any fusion that works in a FusionNeck. Its `augmentation` is a preset of
    `configs/_base_/augmentations` in the place of that of the data, and brings the resolution that is worked at. Its
    `schedule` is a preset of `configs/_base_/schedules` that counts steps, its `lr` a learning rate in the place of the
    schedule's. Its `changes` are of other settings of the config of a run, as `--cfg-options` takes them. Its `label`
    is only said: it ends the name of an arm that differs from another in nothing but `parts`, `changes` or the settings
    of its encoder.
    """

    unet: str = 'unet'
    foundation: str | Mapping[str, Any] | None = None
    fusion: str = NO_FUSION
    control: str | None = None
    weights: str | None = None
    head: str = 'semantic'
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    augmentation: str | None = None
    schedule: str = SCHEDULE
    lr: float | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    @property
    def name(self) -> str:
        """What tells it from others, such as `unet/context/vit-tiny/semantic`, or that with `/lr=0.0003`."""
        schedule = None if self.schedule == SCHEDULE else f'schedule={self.schedule}'
        rate = None if self.lr is None else f'lr={self.lr}'
        seen = None if self.augmentation is None else f'augmentation={self.augmentation}'
        fusion = f'{self.fusion}:{self.control}' if self.control else self.fusion
        return '/'.join(filter(None, (self.unet, fusion, self.encoder, self.head, seen, schedule, rate, self.label)))

    @property
    def encoder(self) -> str | None:
        """Its foundation encoder, by its name or that of its class, and its weights where these are named."""
        name, weights = self.foundation, self.weights
        if isinstance(name, Mapping):
            weights = weights or name.get('weights')
            name = name.get('name') or name['type'].rpartition('.')[2]
        return f'{name}:{weights}' if weights else name

    @property
    def encoder_weights(self) -> str | None:
        """Weights of the encoder, in whichever place they are named; None for those of its entry."""
        given = self.foundation if isinstance(self.foundation, Mapping) else {}
        return self.parts.get('foundation', {}).get('weights', self.weights or given.get('weights'))


def arms_of(group: Any) -> list[Arm]:
    """Make an arm of each combination of what a group lists; those that come out the same are one.

    Raises:
        UserError: a key is unknown, a value is of another kind than it should be, there is no such preset, or the
            weights of no encoder are here where those that are were asked for.
    """
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
    if key == 'lr':
        return _checked_rate(value)
    if key == 'changes':
        return _checked_changes(value)
    if key == 'foundation' and isinstance(value, Mapping):
        return _checked_encoder(value)
    if not isinstance(value, str):
        raise UserError(f'{key}={value!r}: give a name')
    if key == 'control':
        return find_name(key, value, CONTROLS)
    if key in PRESET_KINDS:
        return find_preset(PRESET_KINDS[key], key, value)
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
    return by_name(parts)


def _checked_changes(changes: Any) -> Mapping[str, Any]:
    if not isinstance(changes, Mapping) or not all(isinstance(name, str) for name in changes):
        raise UserError(
            f'changes={changes!r}: give settings of the config by their places, such as {{model.test_cfg.tile: 384}}'
        )
    return by_name(changes)


def _checked_encoder(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = by_name(settings)
    if not isinstance(settings.get('type'), str):
        raise UserError(
            f'foundation={settings!r}: the settings of an encoder need its type, such as own_parts.MyEncoder; give one'
        )
    return settings


def _checked_rate(value: Any) -> float:
    """Return a learning rate; YAML takes 1e-4, which lacks a point, for text."""
    try:
        rate = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 < rate < math.inf:
        raise UserError(f'lr={value!r}: give a number above 0, such as 0.0003')
    return rate


def by_name(settings: Any) -> Any:
    """Name each class in settings by its place: they are written down and read again, by other processes.

    Raises:
        UserError: a class is of the script that runs.

    >>> by_name({'block': {'type': Arm, 'sizes': [1]}})
    {'block': {'type': 'mmgfnuc.studies.arms.Arm', 'sizes': [1]}}
    """
    if isinstance(settings, Mapping):
        return {key: by_name(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return type(settings)(map(by_name, settings))
    if not isinstance(settings, type):
        return settings
    if settings.__module__ == '__main__':
        raise UserError(
            f'type={settings.__qualname__}: processes of runs cannot import it from the script that runs; define it in '
            'a module, such as own_parts.py, and name that in imports'
        )
    return f'{settings.__module__}.{settings.__qualname__}'


def _with_present(names: Sequence[Any]) -> list[Any]:
    from .preparation import encoders_at_hand  # it imports PyTorch, which a study without `present` does not need

    return [one for name in names for one in (encoders_at_hand() if name == PRESENT else [name])]


def _without_fusion(settings: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in settings.items() if key not in FUSED_KEYS}
    if 'parts' in rest:
        rest['parts'] = {part: value for part, value in rest['parts'].items() if part not in FUSED_PARTS}
    return rest
