"""A foundation encoder by its name."""

from typing import Any

from mmgfnuc.registry import MODELS

from .base import FoundationEncoder
from .catalogue import find_entry
from .sam import SAMEncoder
from .timm_pyramid import TimmPyramidEncoder
from .timm_vit import TimmViTEncoder

ENCODERS: dict[str, type[FoundationEncoder]] = {
    'sam': SAMEncoder,
    'vit': TimmViTEncoder,
    'pyramid': TimmPyramidEncoder,
}


@MODELS.register_module()
def foundation_encoder(name: str, **settings: Any) -> FoundationEncoder:
    """Build an encoder of the catalogue: `dict(type='mmgfnuc.foundation_encoder', name='dinov2-vit-b14')`.

    Args:
        name: one of `list_foundation()`, or `timm:<name>` for any ViT or pyramid of timm.
        settings: `weights`, `out_layers`, `tune`, `input_size`, `arch`, `grad_checkpointing`, `lora`, `cache`: see
            FoundationEncoder.

    Raises:
        UserError: the name is unknown, a setting does not fit, or the weights are not there.
    """
    entry = find_entry(name)
    return ENCODERS[entry.encoder](entry, **settings)
