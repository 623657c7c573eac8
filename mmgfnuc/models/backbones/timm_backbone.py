"""Any timm model with a pyramid of features as the encoder."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.timm_models import (
    check_timm_name,
    create_for_any_size,
    load_timm_weights,
    timm_hub,
)
from mmgfnuc.models.layers.trial import run_empty, unused_parameters
from mmgfnuc.models.weights.locate import WeightSource, find_weights
from mmgfnuc.registry import MODELS

from .base import Backbone

MODEL_KEY = 'model.backbone.model_name'
WEIGHTS_KEY = 'model.backbone.weights'
ADVICE = 'take other out_indices, or a pyramid, such as resnet34, convnext_tiny or swin_tiny_patch4_window7_224'


@MODELS.register_module()
class TimmBackbone(Backbone):
    """Image -> the feature maps of a timm model: ResNet, EfficientNet, ConvNeXt, Swin, DenseNet and many more.

    The levels are those of timm's `features_only`; what comes after the last one is left out. Images are padded to a
    multiple of the model's deepest stride, so that every level has its exact size, and the levels cropped back.

    - Window transformers keep their window size at any image size (timm's `dynamic_img_size`).
    - A model bound to one image size (MaxViT, CoaT, Hiera, EfficientFormer, ...) sees the image in tiles of `tile`
      pixels, its own size, side by side; none sees beyond its tile. `arch={'img_size': 256}` builds most of them for
      another size.
    - Convolutions and pools without padding (Inception v4, NASNet, Xception) are padded: otherwise their levels would
      leave out the border of the image. The parameters remain timm's.

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
        UserError: timm has no such model, or it gives no pyramid, or the levels, the weights or `arch` do not fit it.

    Source: Wightman, "PyTorch Image Models" (timm), `forward_intermediates`.
    """

    # Faster, for depthwise convolutions most of all.
    memory_format = torch.channels_last

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
                f"'timm:{model_name}'"
            )
        entry = model.pretrained_cfg
        mean, std = (entry['mean'], entry['std']) if in_channels == 3 else (0.5, 0.5)
        super().__init__(in_channels, out_channels, out_strides, mean, std, multiple=max(strides))
        if weights is not None:
            source = WeightSource(
                name=model_name, hub=timm_hub(model.pretrained_cfg), config_key=WEIGHTS_KEY, untrained=None
            )
            load_timm_weights(model, find_weights(weights, source), WEIGHTS_KEY)
        self.image_level = image_level
        self.indices = model.prune_intermediate_layers(indices, prune_norm=True)
        # timm initialises on construction; MMEngine would call its `init_weights` again and erase loaded weights.
        model.is_init = True
        self.model = model
        self.to(memory_format=self.memory_format)
        self.tile: int | None = None
        self._settle(model_name, _native_side(model, arch or {}))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images."""
        if self.tile is None:
            levels = self._run(images)
        else:
            grid = (images.shape[2] // self.tile, images.shape[3] // self.tile)
            levels = [_join_tiles(level, grid) for level in self._run(_cut_tiles(images, self.tile))]
        return [images] * self.image_level + levels

    def _run(self, images: Tensor) -> list[Tensor]:
        images = images.contiguous(memory_format=self.memory_format)
        return list(self.model.forward_intermediates(images, indices=self.indices, intermediates_only=True))

    def _settle(self, model_name: str, native: int) -> None:
        """Find by trial which images the model takes; timm does not say."""
        self.model.eval()
        deepest = self.multiple
        wrong = self._try_multiples(deepest, 2 * deepest)
        if wrong and native % deepest == 0:
            self.tile = native
            wrong = self._try_multiples(native)
        if wrong:
            self.tile = None
            _pad_convolutions(self.model)
            wrong = self._try_multiples(deepest)
        if wrong:
            raise UserError(f"timm's '{model_name}' gives no pyramid to build on: {wrong}; {ADVICE}")
        self.model.train()

    def _try_multiples(self, *multiples: int) -> str | None:
        """Take the first that works; return what is wrong with the last one."""
        for self.multiple in multiples:
            wrong = self._try(self.multiple, 2 * self.multiple)
            if wrong is None:
                break
        return wrong

    def _try(self, height: int, width: int) -> str | None:
        """Encode an empty image; return what is wrong with the levels."""
        levels, wrong = run_empty(self.encode, self.model, (1, self.in_channels, height, width))
        if wrong:
            return wrong
        expected = [
            (1, channels, height // stride, width // stride)
            for channels, stride in zip(self.out_channels, self.out_strides, strict=True)
        ]
        given = [tuple(level.shape) for level in levels]
        if given != expected:
            return f'{given} for {height}x{width} pixels, not {expected}'
        unused = unused_parameters(self.model, levels)
        if unused:
            chosen = f'out_indices={tuple(self.indices)}'
            return f'{len(unused)} parameters, such as {unused[0]}, reach none of {chosen}: add the levels left out'
        return None


def _cut_tiles(images: Tensor, side: int) -> Tensor:
    """(B, C, rows * side, columns * side) -> (B * rows * columns, C, side, side)."""
    return images.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _join_tiles(level: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B * rows * columns, C, h, w) -> (B, C, rows * h, columns * w), grid = (rows, columns)."""
    return level.unflatten(0, (-1, *grid)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def _pad_convolutions(model: Any) -> None:
    """Make convolutions and pools pad, so that a level has a pixel for each stride of the image."""
    for module in model.modules():
        # Not subclasses: those of timm pad by themselves.
        if type(module) in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d) and module.padding in (0, (0, 0)):
            kernel = to_2tuple(module.kernel_size)
            if kernel[0] % 2 and kernel[1] % 2:
                module.padding = (kernel[0] // 2, kernel[1] // 2)


def _native_side(model: Any, arch: Mapping[str, Any]) -> int:
    return to_2tuple(arch.get('img_size', model.pretrained_cfg['input_size'][1:]))[0]


def _create(model_name: str, in_channels: int, arch: Mapping[str, Any]) -> Any:
    check_timm_name(model_name, MODEL_KEY)
    try:
        model = create_for_any_size(model_name, in_chans=in_channels, **arch)
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
