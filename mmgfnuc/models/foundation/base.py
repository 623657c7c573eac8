"""The contract of every foundation encoder."""

import math
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmgfnuc.errors import UserError
from mmgfnuc.files import file_sha256
from mmgfnuc.models.layers import Normalize, longest_side_size, resize_longest_side
from mmgfnuc.models.weights.locate import RANDOM, check_published

from .cache import FeatureCache, arithmetic, digest_of
from .catalogue import Entry
from .lora import LoraSettings, add_adapters, is_adapter, merge_adapters

TUNE_MODES = ('frozen', 'lora', 'full')
# `input_size` of the entry.
ENTRY_SIZE = 'entry'


@contextmanager
def weights_are_meant() -> Iterator[None]:
    """Say nothing of random weights or of those of a constructor: a study asks for them, or a checkpoint has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.* has (RANDOM weights|the weights that its constructor gives)')
        yield


class FoundationEncoder(BaseModule, metaclass=ABCMeta):
    """Images -> context features of a pretrained model, from chosen layers, shallow first.

    Subclasses build a network in `build` and run it in `encode`. What is tuned:

    - `frozen`: nothing. No gradient, evaluation mode that survives `.train()`, and no place in the saved checkpoint,
      which holds the SHA-256 of the weight file instead and loads only beside the same file. Weights that are in no
      file, those of a random encoder and those that a module's constructor gives, are saved.
    - `lora`: low-rank adapters beside the linear layers of the attention, as `lora` says; they alone are saved, beside
      the SHA-256. `merge_lora` adds them to the weights for inference.
    - `full`: everything, and everything is saved; the SHA-256 is then zero. `layer_of` orders the parameters by depth,
      for a learning rate that decays with it.

    Args:
        entry: of the catalogue.
        weights: a file, a folder as the hub has it, a name in `$MMGFNUC_WEIGHTS`, or `random`, which warns; None finds
            the entry's own there or on the hub, or takes those that the constructor of a module gives.
        out_layers: None takes the entry's; indices may be negative.
        tune: `frozen`, `lora` or `full`.
        input_size: None takes images as given; a number scales their longer side to it first (pixels); `entry` does
            what the entry says.
        arch: keyword arguments for another size of the architecture; the weights must fit it.
        grad_checkpointing: in training keep the inputs of blocks only, and compute the rest of them again: slower, in
            much less memory.
        lora: settings for `tune='lora'`, see LoraSettings.
        cache: settings of a cache on disk for the features of a frozen encoder, see FeatureCache.

    Shape:
        (B, 3, H, W) -> feature j: (B, out_channels[j], *grid_sizes(H, W)[j])

    Raises:
        UserError: a setting does not exist or does not fit, or weights are missing or do not fit.
    """

    out_channels: tuple[int, ...]
    out_layers: list[int | str]
    # Pixels of the encoder's input per pixel of each feature.
    out_strides: tuple[int, ...]
    network: Any
    weights_sha256: Tensor

    def __init__(
        self,
        entry: Entry,
        weights: str | Path | None = None,
        out_layers: Sequence[int | str] | None = None,
        tune: str = 'frozen',
        input_size: int | str | None = ENTRY_SIZE,
        arch: Mapping[str, Any] | None = None,
        grad_checkpointing: bool = False,
        lora: Mapping[str, Any] | None = None,
        cache: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if tune not in TUNE_MODES:
            raise UserError(f"tune='{tune}' is unknown; choose one of {', '.join(TUNE_MODES)}")
        if lora is not None and tune != 'lora':
            raise UserError(f"lora={dict(lora)} has no meaning for tune='{tune}'; set tune='lora' or drop it")
        if cache is not None and tune != 'frozen':
            raise UserError(f"cache={dict(cache)}: features of an encoder with tune='{tune}' change; drop the cache")
        self.entry = entry
        self.weights = weights
        self.arch = dict(arch or {})
        self.tune = tune
        self.input_size: Any = entry.input_size if input_size == ENTRY_SIZE else input_size
        self.register_buffer('weights_sha256', torch.zeros(32, dtype=torch.uint8))
        # Before a large network is made for nothing.
        path = entry.weight_file(weights)
        self._build(out_layers)
        self.normalize = Normalize(self.entry.mean, self.entry.std)
        self._check_input_size()
        self._load(path)
        self.prune()
        if grad_checkpointing:
            self.use_grad_checkpointing()
        if tune == 'lora':
            add_adapters(self.network, LoraSettings.of(lora or {}))
        if tune == 'frozen':
            self.requires_grad_(False)
            self.eval()
        if tune != 'full' and path is not None:
            self.register_state_dict_post_hook(_drop_weights)
            self.register_load_state_dict_pre_hook(_restore_weights)
        self._digest: str | None = None
        self.register_load_state_dict_post_hook(_forget_digest)
        self.cache = FeatureCache.of(cache) if cache is not None else None

    @abstractmethod
    def build(self, entry: Entry, arch: dict[str, Any], out_layers: Sequence[int | str] | None) -> None:
        """Set `network`, `out_layers`, `out_channels` and `out_strides`."""

    @abstractmethod
    def load_file(self, path: Path) -> None:
        """Load a file in one of its publishers' formats."""

    @abstractmethod
    def prune(self) -> None:
        """Drop what comes after the last layer used: it would cost time and, when tuned, get no gradient."""

    @abstractmethod
    def use_grad_checkpointing(self) -> None:
        """Let the network keep only the inputs of its blocks."""

    @abstractmethod
    def layer_of(self, parameter: str) -> int:
        """Return the depth of a parameter of `network` by its name: 0 the embedding, then the blocks."""

    @property
    @abstractmethod
    def num_layers(self) -> int:
        """Number of depths that `layer_of` returns."""

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode normalised images; features may cover more than `grid_sizes`, to the right and below."""

    def _build(self, out_layers: Sequence[int | str] | None) -> None:
        try:
            self.build(self.entry, self.arch, out_layers)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            if not self.arch or isinstance(error, UserError):
                raise
            reason = str(error).partition('\n')[0]
            raise UserError(f"arch={self.arch} does not fit '{self.entry.name}': {reason}") from error

    def _check_input_size(self) -> None:
        size, multiple = self.input_size, max(self.out_strides)
        if size is not None and (not isinstance(size, int) or size < 1 or size % multiple):
            below = size // multiple * multiple if isinstance(size, int) else self.entry.native_size or multiple
            nearest = ', '.join(str(side) for side in (below, below + multiple) if side > 0)
            raise UserError(f'input_size={size!r} is not a multiple of {multiple}; nearest {nearest}')

    def _load(self, path: Path | None) -> None:
        if path is None:
            self._warn_of_weights()
            return
        digest = file_sha256(path)
        check_published(path, digest, self.entry)
        self.load_file(path)
        if self.tune != 'full':
            self.weights_sha256.copy_(torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8))

    def _warn_of_weights(self) -> None:
        """Say that the weights are from no file."""
        warnings.warn(
            f"'{self.entry.name}' has RANDOM weights ({self.entry.config_key}): its features carry no pretrained "
            'knowledge',
            stacklevel=5,
        )

    def init_weights(self) -> None:
        """Do nothing: MMEngine would otherwise call timm's `init_weights` and erase the pretrained weights."""

    def train(self, mode: bool = True) -> 'FoundationEncoder':
        """Set the mode; a frozen encoder, and the statistics of batch norms beside adapters, stay as they are."""
        super().train(mode and self.tune != 'frozen')
        if self.tune == 'lora':
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def merge_lora(self) -> None:
        """Add the adapters to the weights; from then on the encoder is an ordinary one, saved in full.

        Raises:
            UserError: it has no adapters.
        """
        if self.tune != 'lora':
            raise UserError(f"merge_lora: '{self.entry.name}' has tune='{self.tune}', no adapters; tune it with 'lora'")
        self.save_in_full()

    def save_in_full(self) -> None:
        """Save all weights from now on, those of a file and of adapters too, as of an encoder that was tuned in full.

        Whether its licence allows to publish them is the caller's concern.
        """
        if self.tune == 'lora':
            merge_adapters(self.network)
        self.tune, self.weights = 'full', RANDOM
        self.weights_sha256.zero_()

    def _scale(self, height: int, width: int) -> float:
        return 1.0 if self.input_size is None else self.input_size / max(height, width)

    def grid_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of each feature of an image of `height` x `width` pixels."""
        if self.input_size is not None:
            height, width = longest_side_size(height, width, self.input_size)
        return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in self.out_strides]

    def grid_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the deepest feature."""
        return self.grid_sizes(height, width)[-1]

    def token_strides(self, height: int, width: int) -> tuple[float, ...]:
        """Image pixels per pixel of each feature, for an image of `height` x `width` pixels."""
        scale = self._scale(height, width)
        return tuple(stride / scale for stride in self.out_strides)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images in [0, 1]."""
        if images.shape[1] != 3:
            raise UserError(
                f"'{self.entry.name}' takes RGB images, 3 channels, not {images.shape[1]}; "
                'give such images, or leave the foundation encoder out'
            )
        if self.cache is not None:
            return self.cache.features(images, self._encode, self._identity(images.device.type))
        return self._encode(images)

    def _identity(self, device: str) -> str:
        """All that the features of an image depend on."""
        if self._digest is None:
            self._digest = digest_of(self.network) + self.code()
        entry, precision = self.entry, {parameter.dtype for parameter in self.network.parameters()}
        images = (self.input_size, entry.mean, entry.std, entry.stretch, entry.resampling)
        network = (entry.name, entry.settings, self.arch, self.out_layers, sorted(map(str, precision)), self._digest)
        return repr((images, network, arithmetic(device)))

    def code(self) -> str:
        """What features depend on besides versions of packages, weights and settings: code of one's own."""
        return ''

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        grids = self.grid_sizes(*images.shape[-2:])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tune != 'frozen'):
            if self.input_size is not None:
                images = resize_longest_side(images, self.input_size)
            if self.entry.stretch:
                low, high = (pick(images, dim=(1, 2, 3), keepdim=True) for pick in (torch.amin, torch.amax))
                images = (images - low) / (high - low).clamp(min=1e-8)
            features = self.encode(self.normalize(images))
        return tuple(f[..., :rows, :columns] for f, (rows, columns) in zip(features, grids, strict=True))


def _forget_digest(module: FoundationEncoder, *_: object) -> None:
    module._digest = None


def _drop_weights(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    """Keep of a pretrained encoder only its adapters, and the digest of its weight file."""
    if module.tune == 'full':  # since its adapters were merged
        return
    for key in [key for key in state if key.startswith(prefix)]:
        if key != f'{prefix}weights_sha256' and not is_adapter(key):
            del state[key]


def _restore_weights(module: FoundationEncoder, state: dict, prefix: str, *_: object) -> None:
    """Fill the weights that `_drop_weights` left out from the module, after comparing the digests."""
    saved = state.get(f'{prefix}weights_sha256')
    if module.tune == 'full':
        return
    if saved is not None and not saved.any():
        raise UserError(
            f"the checkpoint holds weights of '{module.entry.name}' of its own, from no file or tuned in full, and the "
            f"model takes them from a file (tune='{module.tune}'); give the config that it was trained with"
        )
    if saved is not None and not torch.equal(saved.cpu(), module.weights_sha256.cpu()):
        raise UserError(
            f"the checkpoint was trained with other weights of '{module.entry.name}' than '{module.weights}' "
            f'({module.entry.config_key}): SHA-256 {_hex(saved)} against {_hex(module.weights_sha256)}; give the file '
            'it was trained with'
        )
    for name, child in module.named_children():
        for key, value in child.state_dict(prefix=f'{prefix}{name}.').items():
            if not is_adapter(key):
                state.setdefault(key, value)


def _hex(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()[:12] + '...'
