"""What the nuclei of an image depend on beside the image, as data: predictions that agree in it belong together."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from .preprocessing import Preprocessing

# Names the model for people; a copy of its file under another name is the same model.
NAME = 'model'
SHOWN, LONGEST = 3, 60


def describe_model(network: nn.Module, config: Config, preprocessing: Preprocessing) -> dict[str, Any]:
    """Give what tells a model from others: digests of its weights and templates, and its settings, as JSON holds them.

    Args:
        network: with all weights, those of a frozen encoder too.
        config: whose `model` the network was built of.
        preprocessing: of the model.
    """
    found = {
        'weights_sha256': _digest(network),
        'config': config.to_dict()['model'],
        'preprocessing': {
            'mpp': preprocessing.mpp,
            'nucleus_diameter_um': preprocessing.nucleus_diameter_um,
            'classes': preprocessing.classes,
            'stains': [
                [stain.method, '' if stain.template is None else hashlib.sha256(stain.template.tobytes()).hexdigest()]
                for stain in preprocessing.stains
            ],
        },
    }
    return json.loads(json.dumps(found, default=str))


def _digest(network: nn.Module) -> str:
    """SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(chain(network.named_parameters(), network.named_buffers())):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in what two descriptions differ, apart from the name of the model; empty where they agree."""
    one, other = (dict(_leaves({**each, NAME: ''})) for each in (before, now))
    changed = [path for path in sorted({*one, *other}) if one.get(path) != other.get(path)]
    shown = [f'{path} was {_short(one.get(path))}, is {_short(other.get(path))}' for path in changed[:SHOWN]]
    more = [f'and {len(changed) - SHOWN} more'] if len(changed) > SHOWN else []
    return ', '.join([*shown, *more])


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted paths and values of all settings."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, below in value.items():
        yield from _leaves(below, f'{path}.{key}' if path else str(key))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'
