"""What of a trained network goes into a ready model: settings that are data, weights, and what its training began with.

Weights of a file that may be copied become part of the model, those of others are named by their SHA-256 and left out.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.registry import DefaultScope
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones import TimmBackbone
from mmgfnuc.models.foundation import entry_of_config
from mmgfnuc.models.layers.building import is_part_of, look_up
from mmgfnuc.models.layers.timm_models import timm_hub
from mmgfnuc.models.segmentors import FusionSegmentor
from mmgfnuc.models.weights.licences import Terms, require_publishable
from mmgfnuc.models.weights.locate import RANDOM
from mmgfnuc.names import registered
from mmgfnuc.registry import MODELS

from .checkpoint import carried_config
from .predictor import Predictor
from .ready import NAMES_FILE

# Parts of a network, and settings, that only its training needs.
OF_TRAINING = ('auxiliary_head', 'train_cfg')
TEMPLATE = 'stain_template_{}'
STATE_ITS_LICENCE = "register it with an Entry that states its publisher's licence"


def pretrained_parts(checkpoint: Mapping[str, Any], path: str | Path) -> list[dict[str, Any]]:
    """Say with which weights the training of a checkpoint began.

    Returns:
        For each part that had some: `part`, `name`, `licence`, `address`; `sha256` of the file where its weights stay
        with their publisher, else None.

    Raises:
        UserError: a licence does not allow to publish the model.
    """
    config = carried_config(checkpoint, path)
    backbone, foundation = config.model.get('backbone') or {}, config.model.get('foundation')
    parts = []
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        if is_part_of(backbone, TimmBackbone) and backbone.get('weights') is not None:
            parts.append(_of_backbone(backbone['model_name']))
        if foundation and foundation.get('weights') != RANDOM:
            entry = entry_of_config(foundation)
            if not (entry.constructs_weights and foundation.get('weights') is None):
                parts.append(_of_encoder(entry, foundation.get('tune', 'frozen'), checkpoint['state_dict']))
    return parts


def _of_backbone(model_name: str) -> dict[str, Any]:
    known = timm.models.get_pretrained_cfg(model_name)
    what = f"weights of '{model_name}' (model.backbone)"
    terms = require_publishable(what, known.license, 'take another backbone')
    if terms is not Terms.FREE:
        raise _no_copy(what, known.license)
    address = f'https://huggingface.co/{timm_hub(known.to_dict())}'
    return _part('backbone', model_name, known.license, address)


def _of_encoder(entry: Any, tune: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    what = f"weights of '{entry.name}' (model.foundation)"
    terms = require_publishable(what, entry.licence, STATE_ITS_LICENCE)
    if terms is not Terms.FREE and tune == 'full':
        raise _no_copy(what, entry.licence)
    sha256 = None if terms is Terms.FREE else bytes(state['foundation.weights_sha256'].tolist()).hex()
    return _part('foundation', entry.name, entry.licence, entry.page, sha256)


def _part(part: str, name: str, licence: str, address: str, sha256: str | None = None) -> dict[str, Any]:
    return {'part': part, 'name': name, 'licence': licence, 'address': address, 'sha256': sha256}


def _no_copy(what: str, licence: str) -> UserError:
    return UserError(
        f"{what}: licence '{licence}' leaves copies to the publisher, and tuned weights are one; train with "
        "tune='frozen' or 'lora', or on others"
    )


def network_weights(predictor: Predictor, pretrained: list[dict[str, Any]]) -> tuple[dict[str, Tensor], list[Any]]:
    """Give all weights that a folder holds, and the stain normalisations as config.json has them.

    The network of the predictor saves its encoder in full from then on, where the folder may hold it.
    """
    network = predictor.model
    if network.foundation is not None and not any(part['sha256'] for part in pretrained):
        network.foundation.save_in_full()
    weights = {key: one for key, one in network.state_dict().items() if key.partition('.')[0] not in OF_TRAINING}
    stains = []
    for index, stain in enumerate(predictor.preprocessing.stains):
        name = TEMPLATE.format(index)
        if stain.template is not None:
            weights[name] = torch.from_numpy(stain.template.copy())
        stains.append({'method': stain.method, 'template': None if stain.template is None else name})
    return weights, stains


def network_settings(checkpoint: Mapping[str, Any], path: str | Path, network: FusionSegmentor) -> dict[str, Any]:
    """Give the settings of a network as JSON keeps them: parts by their names in the registry, and no file.

    Raises:
        UserError: a setting is not data of JSON.
    """
    config = carried_config(checkpoint, path)
    model = config.model.to_dict()
    if network.foundation is not None and network.foundation.tune == 'full':
        model['foundation'] = {key: value for key, value in model['foundation'].items() if key != 'lora'}
        model['foundation']['tune'] = 'full'
    for key in OF_TRAINING:
        model.pop(key, None)
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        settings = _portable(model, _names())
    if json.loads(json.dumps(settings)) != settings:
        raise UserError(f"checkpoint '{path}': its model has settings that JSON does not keep, such as numbers as keys")
    return settings


def _names() -> dict[int, str]:
    """Names of registered parts, with their scopes, by their identity."""
    return {id(part): name for name, part in registered(MODELS.root) if '.' in name}


def _portable(value: Any, names: Mapping[int, str]) -> Any:
    if isinstance(value, Mapping):
        kept = {key: one for key, one in value.items() if key not in NAMES_FILE}
        return {key: _named(one, names) if key == 'type' else _portable(one, names) for key, one in kept.items()}
    if isinstance(value, list | tuple):
        return [_portable(one, names) for one in value]
    return value


def _named(kind: Any, names: Mapping[int, str]) -> Any:
    """Name a part as its registry does: its module may move, and a config of another scope names it otherwise."""
    return names.get(id(look_up(kind)), kind)
