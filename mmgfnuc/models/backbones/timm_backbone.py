"""Any timm model with a pyramid of features as the encoder."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.timm_models import check_timm_name, load_timm_weights, timm_weights_page
from mmgfnuc.models.layers.weights import find_weights
from mmgfnuc.registry import MODELS

from .base import Backbone

MODEL_KEY = 'model.backbone.model_name'
WEIGHTS_KEY = 'model.backbone.weights'
ADVICE = 'take other out_indices, or a pyramid, such as resnet34, convnext_tiny or swin_tiny_patch4_window7_224'


@MODELS.register_module()
class TimmBackbone(Backbone):
    """Image -> the feature maps of a timm model: ResNet, EfficientNet, ConvNeXt, Swin, DenseNet and many more.

    The levels are those of timm's `features_only`; what comes after the last one is left out. Images are padded to a
    multiple of the model's deepest stride, so that every level has its exact size, and the levels cropped back. Window
    transformers keep their window size at any image size (timm's `dynamic_img_size`).

    Args:
        model_name: timm's name, such as `resnet34`.
        in_channels: channels of the image. Mean and std are those of timm's entry for 3, else 0.5.
        out_indices: levels to use, ascending; None takes the deepest one of each stride.
        weights: a path or a name in `$MMGFNUC_WEIGHTS` (timm's key names); None leaves the random initialisation.
        image_level: the normalised image itself comes first, as a level of stride 1.
        arch: timm's keyword arguments for another size of the architecture, such as `drop_path_rate`, or its widths.

    Shape:
        (B, in_channels, H, W) -> level i: (B, out_channels[i], ceil(H / out_strides[i]), ceil(W / out_strides[i]))

    Raises:
        UserError: timm has no such model; or it gives no pyramid, or takes images of some sizes only; or the levels,
            the weights or `arch` do not fit it.

    Source: Wightman, "PyTorch Image Models" (timm), `forward_intermediates`.
    """

    def __init__(
        self,
        model_name: str,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        weights: str | None = None,
        image_level: bool = False,
        arch: Mapping[str, Any] | None = None,
    ) -> None:
        model = _create(model_name, in_channels, arch or {})
        channels = [level['num_chs'] for level in model.feature_info]
        strides = [level['reduction'] for level in model.feature_info]
        indices = _used_levels(model_name, strides, out_indices)
        out_channels = [in_channels] * image_level + [channels[index] for index in indices]
        out_strides = [1] * image_level + [strides[index] for index in indices]
        if len(indices) < 2 or any(deep <= shallow for shallow, deep in pairwise(out_strides)):
            raise UserError(
                f"timm's '{model_name}' gives levels of stride {', '.join(map(str, out_strides))} (pixels): a pyramid "
                f'needs at least two, with strides that grow; {ADVICE}; a plain ViT is a foundation encoder, '
                'TimmViTEncoder'
            )
        entry = model.pretrained_cfg
        mean, std = (entry['mean'], entry['std']) if in_channels == 3 else (0.5, 0.5)
        super().__init__(in_channels, out_channels, out_strides, mean, std, multiple=max(strides))
        if weights is not None:
            load_timm_weights(model, find_weights(weights, timm_weights_page(model), WEIGHTS_KEY, None), WEIGHTS_KEY)
        self.image_level = image_level
        self.indices = model.prune_intermediate_layers(indices, prune_norm=True)
        # timm initialises on construction; MMEngine would call its `init_weights` again and erase loaded weights.
        model.is_init = True
        self.model = model
        self._check_levels(model_name)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images."""
        levels = self.model.forward_intermediates(images, indices=self.indices, intermediates_only=True)
        return [images] * self.image_level + list(levels)

    def _check_levels(self, model_name: str) -> None:
        """Try a small image: timm does not tell which models take any size, nor which parts reach the levels."""
        size = (self.multiple, 2 * self.multiple)
        device = next(self.model.parameters()).device
        if device.type == 'meta':  # built to be counted, not run
            return
        self.model.eval()
        with torch.enable_grad():
            try:
                levels = self.encode(torch.zeros(1, self.in_channels, *size, device=device))
            except Exception as error:  # each model fails in its own way
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                message = f"timm's '{model_name}' does not take images of any size ({reason}); {ADVICE}"
                raise UserError(message) from error
            self._check_gradients(levels, model_name)
        self.model.train()
        expected = [
            (1, channels, *(side // stride for side in size))
            for channels, stride in zip(self.out_channels, self.out_strides, strict=True)
        ]
        given = [tuple(level.shape) for level in levels]
        if given != expected:
            raise UserError(f"timm's '{model_name}' gives levels {given} for {size} pixels, not {expected}; {ADVICE}")

    def _check_gradients(self, levels: Sequence[Tensor], model_name: str) -> None:
        total = torch.stack([level.sum() for level in levels]).sum()
        gradients = torch.autograd.grad(total, list(self.model.parameters()), allow_unused=True)
        named = zip(self.model.named_parameters(), gradients, strict=True)
        unused = [name for (name, _), gradient in named if gradient is None]
        if unused:
            raise UserError(
                f"{len(unused)} parameters of timm's '{model_name}', such as {unused[0]}, reach none of the levels "
                f'out_indices={tuple(self.indices)}; add the levels left out'
            )


def _create(model_name: str, in_channels: int, arch: Mapping[str, Any]) -> Any:
    check_timm_name(model_name, MODEL_KEY)
    settings = dict(pretrained=False, num_classes=0, in_chans=in_channels, **arch)
    try:
        model = timm.create_model(model_name, dynamic_img_size=True, **settings)
    except TypeError:  # most architectures take any size as they are, and do not know the setting
        try:
            model = timm.create_model(model_name, **settings)
        except TypeError as error:
            raise UserError(f"timm's '{model_name}' does not take arch={dict(arch)}: {error}") from error
    if not hasattr(model, 'forward_intermediates') or not hasattr(model, 'feature_info'):
        raise UserError(f"timm's '{model_name}' ({MODEL_KEY}) gives no intermediate features; {ADVICE}")
    return model


def _used_levels(model_name: str, strides: Sequence[int], out_indices: Sequence[int] | None) -> list[int]:
    if out_indices is None:
        return [index for index, stride in enumerate(strides) if stride not in strides[index + 1 :]]
    indices = list(out_indices)
    if not set(indices) <= set(range(len(strides))) or indices != sorted(set(indices)):
        raise UserError(
            f'out_indices={tuple(indices)}: give some of 0 to {len(strides) - 1}, the levels of {model_name}, each '
            'once, ascending'
        )
    return indices
