"""What every wrapper of a timm model needs: its name checked, its weight file found and loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm

from mmgfnuc.models.weights.files import load_exactly, read_state_dict
from mmgfnuc.names import unknown_name


def check_timm_name(model_name: str, config_key: str) -> None:
    """Refuse a name, or a pretrained tag after it, that timm does not have.

    Raises:
        UserError: names near ones.
    """
    names = timm.list_models()
    if timm.is_model(model_name):
        try:
            timm.models.get_pretrained_cfg(model_name)
            return
        except RuntimeError:  # an unknown tag
            names = timm.list_models(pretrained=True)
    raise unknown_name(config_key, model_name, names, 'timm.list_models() lists the names')


def create_for_any_size(model_name: str, **settings: Any) -> Any:
    """Build a timm model without weights and classifier, for images of any size where it has such a setting."""
    settings = dict(pretrained=False, num_classes=0) | settings
    try:
        return timm.create_model(model_name, dynamic_img_size=True, **settings)
    except TypeError:  # most architectures take any size as they are, and do not know the setting
        return timm.create_model(model_name, **settings)


def patch_stride(vit: Any) -> int:
    """Pixels per token of a ViT, whose patches may be those of a convolutional stem's output."""
    return vit.patch_embed.feat_ratio()


def timm_hub(known: Mapping[str, Any]) -> str:
    """Repository on huggingface.co that timm's entry of a model names."""
    repository = known.get('hf_hub_id') or f'timm/{known["architecture"]}'
    return repository if not repository.endswith('/') else f'{repository}{known["architecture"]}.{known["tag"]}'


def classifier_prefixes(model: Any) -> tuple[str, ...]:
    """What the keys of a model's classifiers begin with."""
    names = model.pretrained_cfg['classifier'] or ()
    return tuple(f'{name}.' for name in ((names,) if isinstance(names, str) else names))


def load_timm_weights(model: Any, path: Path, config_key: str) -> None:
    """Load a state dict with timm's key names into a model without classifier; the file's classifier is left out.

    Raises:
        UserError: the file is not readable, or anything else in it does not fit.
    """
    prefixes = classifier_prefixes(model)
    state = {key: value for key, value in read_state_dict(path).items() if not key.startswith(prefixes)}
    load_exactly(model, state, path, config_key)
