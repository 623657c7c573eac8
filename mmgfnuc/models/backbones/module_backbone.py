"""Any network that gives a pyramid of maps as the encoder: MMSegmentation's backbones, or one's own."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from mmengine.model import BaseModule
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.building import build_part, is_part_of, look_up, takes
from mmgfnuc.models.layers.trial import run_empty, unused_parameters

from .base import Backbone

# Shorter sides of the images of the trial (pixels): of most, of strides that are no powers of two, of deep pyramids.
SIDES = (64, 420, 256)
# Settings of a ModuleBackbone, beside those of its module.
OWN = ('in_channels', 'mean', 'std', 'multiple')


class ModuleBackbone(Backbone):
    """Image -> the maps of any network that takes an image and gives a list or tuple of them, shallow first.

    Channels and strides are found by a trial on an empty image. Images are padded to a multiple of the deepest stride,
    so that every level has its exact size, and the levels cropped back.

    A backbone of MMSegmentation keeps its `init_cfg`, with which MMEngine initialises it or loads its weights. Another
    network initialises itself as it is made.

    Args:
        module: the network. In a config its settings and those below stand side by side, see `build_backbone`.
        in_channels: channels of the image.
        mean: subtracted from the image in [0, 1], one number or one per channel. By default `mean` and `std` are the
            attributes of the network of these names; where it lacks them, those of ImageNet, which the published
            weights of MMSegmentation expect (0.5 for images of other than 3 channels).
        std: divides the image after `mean` is subtracted.
        multiple: of which the sides of its images are (pixels); by default the deepest stride, or a larger one
            where the network fails on such images.

    Shape:
        (B, in_channels, H, W) -> level i: (B, out_channels[i], ceil(H / out_strides[i]), ceil(W / out_strides[i]))

    Raises:
        UserError: the network does not give at least two maps, each of a stride larger than the one before, or has
            trainable parameters that reach none of them.
    """

    def __init__(
        self,
        module: nn.Module,
        in_channels: int = 3,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        multiple: int | None = None,
    ) -> None:
        training = module.training
        module.eval()  # not in a chain: backbones of MMSegmentation return None
        channels, strides, multiple = _measure(module, in_channels, multiple)
        module.train(training)
        own_mean, own_std = _own_statistics(module, in_channels)
        super().__init__(
            in_channels,
            channels,
            strides,
            own_mean if mean is None else mean,
            own_std if std is None else std,
            multiple=multiple,
        )
        if not isinstance(module, BaseModule):
            # MMEngine would call an `init_weights` again, and erase loaded weights.
            cast(Any, module).is_init = True
        self.module = module

    @property
    def name(self) -> str:
        """What a message calls it: by the network."""
        return type(self.module).__name__

    def encode(self, images: Tensor) -> Sequence[Tensor]:
        """Encode normalised images."""
        return self.module(images)


def build_backbone(config: Mapping[str, Any]) -> Backbone:
    """Build a backbone of a registry config, whose type is one, or any network that gives a pyramid.

    The latter becomes a ModuleBackbone: what it does not take of the settings `in_channels`, `mean`, `std` and
    `multiple` goes to that.

    >>> backbone = build_backbone(dict(type='mmseg.ResNet', depth=18, mean=0.5, std=0.5))
    >>> backbone.out_channels, backbone.out_strides
    ((64, 128, 256, 512), (4, 8, 16, 32))

    Raises:
        UserError: there is no such type, or see ModuleBackbone.
    """
    if is_part_of(config, Backbone):
        return build_part(config)
    kind = look_up(config.get('type'))
    own = {name: config[name] for name in OWN if name in config and not takes(kind, name)}
    device = torch.get_default_device()
    with torch.device('cpu'):  # transformers of MMSegmentation cannot be built without memory
        module = build_part({name: value for name, value in config.items() if name not in own})
    if isinstance(module, Backbone):
        return module
    if not isinstance(module, nn.Module):
        raise UserError(f'the type of the backbone gives a {type(module).__name__}; give that of a network')
    if 'in_channels' in config:
        own['in_channels'] = config['in_channels']
    return ModuleBackbone(module.to(device), **own)


def _own_statistics(module: nn.Module, in_channels: int) -> tuple[Any, Any]:
    mean, std = getattr(module, 'mean', None), getattr(module, 'std', None)
    if mean is None or std is None:
        return (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD) if in_channels == 3 else (0.5, 0.5)
    return _plain(mean), _plain(std)


def _plain(values: Any) -> Any:
    """Numbers of a buffer; those of one without memory are as good as any."""
    if not isinstance(values, Tensor):
        return values
    return [1.0] * values.numel() if values.is_meta else values.flatten().tolist()


def _measure(module: nn.Module, in_channels: int, multiple: int | None) -> tuple[list[int], list[int], int]:
    """Find channels and strides of the levels of a network, and of which multiple the sides of its images are."""
    for side in SIDES if multiple is None else (multiple,):
        levels, wrong = _try(module, in_channels, side)
        if wrong is None:
            break
    else:
        raise UserError(f'{type(module).__name__} gives no pyramid to build on: {wrong}')
    unused = unused_parameters(module, levels)
    if unused:
        raise UserError(
            f'{len(unused)} parameters of {type(module).__name__}, such as {unused[0]}, reach none of its '
            f'{len(levels)} levels; give the levels left out as well, or leave out these layers'
        )
    strides = _strides(levels, side)
    if multiple is None:
        fitting = (m for m in (strides[-1], 2 * strides[-1]) if _fits(module, in_channels, m, strides))
        multiple = next(fitting, side)
    return [level.shape[1] for level in levels], strides, multiple


def _fits(module: nn.Module, in_channels: int, side: int, strides: list[int]) -> bool:
    levels, wrong = _try(module, in_channels, side)
    return wrong is None and _strides(levels, side) == strides


def _try(module: nn.Module, in_channels: int, side: int) -> tuple[Any, str | None]:
    """Run a network on an empty image; return what it gives, and what is wrong with that."""
    output, failure = run_empty(module, module, (1, in_channels, side, 2 * side))
    if failure:
        return output, f'{failure} (for {in_channels} channels of {side}x{2 * side} pixels)'
    return output, _wrong_with(output, side)


def _wrong_with(output: Any, side: int) -> str | None:
    """Say what keeps the output for an image of `side` x 2 `side` pixels from being a pyramid."""
    if isinstance(output, Tensor):
        return 'it gives one map; return a list of at least two, shallow first'
    if isinstance(output, Mapping):
        return 'it gives a dict; return list(maps.values()), shallow first'
    if not isinstance(output, list | tuple) or not all(isinstance(one, Tensor) and one.ndim == 4 for one in output):
        return f'it gives a {type(output).__name__} of other things than maps; return a list of maps (B, C, h, w)'
    exact = all(level.shape[2] and level.shape[3] == 2 * level.shape[2] for level in output)
    strides = _strides(output, side) if exact else []
    if not exact or any(side % level.shape[2] for level in output):
        sizes = ', '.join(f'{level.shape[2]}x{level.shape[3]}' for level in output)
        return (
            f'it gives maps of {sizes} for {side}x{2 * side} pixels; pad its convolutions, so that a level of stride s '
            'has side / s pixels'
        )
    if len(strides) < 2 or any(deep <= shallow for shallow, deep in pairwise(strides)):
        return (
            f'it gives levels of stride {", ".join(map(str, strides))} (pixels), and a pyramid needs at least two, '
            'whose strides grow; give other levels, shallow first and without dilation (a plain ViT is a foundation '
            'encoder)'
        )
    return None


def _strides(levels: Sequence[Tensor], side: int) -> list[int]:
    return [side // level.shape[2] for level in levels]
