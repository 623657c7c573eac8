"""The contract of every foundation encoder."""

import math
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import Normalize, longest_side_size, resize_longest_side
from mmgfnuc.models.layers.weights import file_digest, find_weights

CONFIG_KEY = 'model.foundation.weights'
RANDOM = 'random'
TUNE_MODES = ('frozen', 'full')


class FoundationEncoder(BaseModule, metaclass=ABCMeta):
    """Images -> context features of a pretrained model, from chosen layers, shallow first.

    Subclasses set `out_channels`, build their network, then call `_finish_init`, and implement `encode`,
    `load_file` and `official_weights`.

    Frozen (`tune='frozen'`) means: no gradient, evaluation mode that survives `.train()`, and no place in the saved
    checkpoint. A checkpoint then holds the SHA-256 of the weight file instead, and loads only beside the same file.
    The weights of a random encoder exist nowhere else, so these are saved.

    Args:
        weights: a path, a name in `$MMGFNUC_WEIGHTS`, or `random`, which warns.
        tune: `frozen` or `full`.
        input_size: None takes images as given; a number scales their longer side to it first (pixels).
        patch_size: pixels per token.
        mean: of the images in [0, 1] that the encoder was trained on.
        std: likewise.

    Shape:
        (B, 3, H, W) -> feature j: (B, out_channels[j], *grid_size(H, W))
    """

    out_channels: tuple[int, ...]
    weights_sha256: Tensor

    def __init__(
        self,
        weights: str,
        tune: str,
        input_size: int | None,
        patch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        if tune not in TUNE_MODES:
            raise UserError(f"tune='{tune}' is unknown; choose one of {', '.join(TUNE_MODES)}")
        if input_size is not None and (input_size < 1 or input_size % patch_size):
            below = input_size // patch_size * patch_size
            nearest = ', '.join(str(size) for size in (below, below + patch_size) if size > 0)
            raise UserError(f'input_size={input_size} is not a multiple of {patch_size}; nearest {nearest}')
        self.weights = weights
        self.tune = tune
        self.input_size = input_size
        self.patch_size = patch_size
        self.normalize = Normalize(mean, std)
        self.register_buffer('weights_sha256', torch.zeros(32, dtype=torch.uint8))

    @property
    @abstractmethod
    def official_weights(self) -> str:
        """Address where the publisher offers the weights."""

    @abstractmethod
    def load_file(self, path: Path) -> None:
        """Load a file in its publisher's format."""

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode normalised images; features may cover more than `grid_size`, to the right and below."""

    def _finish_init(self) -> None:
        """Load the weights and freeze; called by subclasses once the network is built."""
        if self.weights == RANDOM:
            warnings.warn(
                f'{type(self).__name__} has RANDOM weights ({CONFIG_KEY}): its features carry no pretrained knowledge',
                stacklevel=3,
            )
        else:
            path = find_weights(self.weights, self.official_weights, CONFIG_KEY, RANDOM)
            self.load_file(path)
            self.weights_sha256.copy_(file_digest(path))
        if self.tune == 'frozen':
            self.requires_grad_(False)
            self.eval()
            if self.weights != RANDOM:
                self.register_state_dict_post_hook(_drop_weights)
                self.register_load_state_dict_pre_hook(_restore_weights)

    def init_weights(self) -> None:
        """Do nothing: MMEngine would otherwise call timm's `init_weights` and erase the pretrained weights."""

    def train(self, mode: bool = True) -> 'FoundationEncoder':
        """Set the mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and self.tune != 'frozen')

    def grid_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens for an image of `height` x `width` pixels."""
        if self.input_size is not None:
            height, width = longest_side_size(height, width, self.input_size)
        return math.ceil(height / self.patch_size), math.ceil(width / self.patch_size)

    def token_strides(self, height: int, width: int) -> tuple[float, ...]:
        """Image pixels per token of each feature, for an image of `height` x `width` pixels."""
        scale = 1.0 if self.input_size is None else self.input_size / max(height, width)
        return (self.patch_size / scale,) * len(self.out_channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images in [0, 1]."""
        if images.shape[1] != 3:
            raise UserError(
                f'{type(self).__name__} takes RGB images, 3 channels, not {images.shape[1]}; '
                'give such images, or leave the foundation encoder out'
            )
        rows, columns = self.grid_size(*images.shape[-2:])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tune != 'frozen'):
            if self.input_size is not None:
                images = resize_longest_side(images, self.input_size)
            features = self.encode(self.normalize(images))
        return tuple(feature[..., :rows, :columns] for feature in features)


def _drop_weights(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    """Keep of a frozen encoder only the digest of its weight file."""
    for key in [key for key in state if key.startswith(prefix)]:
        if key != f'{prefix}weights_sha256':
            del state[key]


def _restore_weights(module: FoundationEncoder, state: dict, prefix: str, *_: object) -> None:
    """Fill the weights that `_drop_weights` left out from the module, after comparing the digests."""
    saved = state.get(f'{prefix}weights_sha256')
    if saved is not None and not torch.equal(saved.cpu(), module.weights_sha256.cpu()):
        raise UserError(
            f"the checkpoint was trained with other encoder weights than '{module.weights}' ({CONFIG_KEY}): SHA-256 "
            f'{_hex(saved)} against {_hex(module.weights_sha256)}; give the file it was trained with'
        )
    for name, child in module.named_children():
        for key, value in child.state_dict(prefix=f'{prefix}{name}.').items():
            state.setdefault(key, value)


def _hex(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()[:12] + '...'
