"""Features of a frozen encoder, kept on disk."""

import contextlib
import errno
import hashlib
import os
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mmgfnuc.errors import UserError

Features = tuple[Tensor, ...]
DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
SUFFIX = '.features'
GIGABYTE = 10**9
CHECKSUM_BYTES = 4
# To be raised whenever the encoders of this package compute otherwise than before: old files are then left alone.
ARITHMETIC = 1
# The folder is measured again after this share of the limit was written.
SCAN_SHARE = 0.02
# Unfinished files older than this are those of processes that died.
ABANDONED_SECONDS = 3600


@dataclass(frozen=True)
class CacheSettings:
    """Where and how features are kept.

    Attributes:
        folder: of the files; several runs and processes may share it.
        dtype: `float32` gives the very same training, `float16` and `bfloat16` take half the disk.
        max_gb: limit of the folder's size in gigabytes (10**9 bytes). When it is reached, files that were not used
            since this process began make room, the longest unused first; after that nothing new is written.
    """

    folder: str
    dtype: str = 'float32'
    max_gb: float = 50.0


class FeatureCache:
    """Features, filed by a hash of the exact input of the encoder, its weights and its settings.

    A file holds the features of one image, with a checksum. A damaged file is computed again. Files are written under
    another name and then renamed, so that processes never see half of one; two that make the same file write the same.
    A full disk is reported once, and the training goes on without writing. So are features beyond the range of
    float16.

    Args:
        settings: see CacheSettings.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self.folder = Path(settings.folder).expanduser()
        self.dtype = DTYPES[settings.dtype]
        self.limit = settings.max_gb * GIGABYTE
        self.writes = True
        self.began = time.time()
        self.hits = self.misses = 0
        self._scan()
        for path in self.folder.glob(f'*/*{SUFFIX}.*'):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < self.began - ABANDONED_SECONDS:
                    path.unlink()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> 'FeatureCache':
        """Make a cache from what a config says.

        Raises:
            UserError: a setting or value does not exist, or the folder cannot be written to.
        """
        names = [field.name for field in fields(CacheSettings)]
        unknown = sorted(set(settings) - set(names))
        if unknown or 'folder' not in settings:
            wrong = f"has no '{unknown[0]}'" if unknown else "lacks 'folder'"
            raise UserError(f'cache {wrong}; it takes {", ".join(names)}')
        chosen = CacheSettings(**settings)
        if chosen.dtype not in DTYPES:
            raise UserError(f"cache: dtype='{chosen.dtype}' is unknown; choose one of {', '.join(DTYPES)}")
        if not isinstance(chosen.max_gb, int | float) or chosen.max_gb <= 0:
            raise UserError(f'cache: max_gb={chosen.max_gb!r}: give gigabytes, above 0')
        folder = Path(chosen.folder).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(
                f"cache: folder '{chosen.folder}' cannot be written to ({error.strerror}); give another"
            ) from error
        return cls(chosen)

    def features(self, images: Tensor, encode: Callable[[Tensor], Features], encoder: str) -> Features:
        """Return the features of a batch; those that are not kept yet are computed, together, and kept.

        Args:
            images: (B, C, H, W), the input of `encode`.
            encode: computes the features of some of them.
            encoder: all that the features depend on besides the images.
        """
        identity = hashlib.blake2b(f'{encoder} {self.dtype}'.encode(), digest_size=16).digest()
        paths = [self._path(image, identity) for image in images]
        found = [self._read(path) for path in paths]
        missing = [index for index, features in enumerate(found) if features is None]
        self.hits, self.misses = self.hits + len(images) - len(missing), self.misses + len(missing)
        if missing:
            computed = encode(images[missing])
            for row, index in enumerate(missing):
                found[index] = self._keep(paths[index], tuple(feature[row].cpu() for feature in computed))
        kept = [features for features in found if features is not None]
        return tuple(torch.stack(layer).to(images.device) for layer in zip(*kept, strict=True))

    def _path(self, image: Tensor, identity: bytes) -> Path:
        digest = hashlib.blake2b(repr((tuple(image.shape), image.dtype)).encode(), key=identity, digest_size=20)
        digest.update(_bytes(image))
        name = digest.hexdigest()
        return self.folder / name[:2] / (name + SUFFIX)

    def _read(self, path: Path) -> Features | None:
        """Read a file; None if it is not there or damaged."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        features = _unpacked(content)
        if features is None:
            warnings.warn(f'{path} is damaged; its features are computed again', stacklevel=2)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return features

    def _keep(self, path: Path, features: Features) -> Features:
        """Write features, and return what reading them will give."""
        rounded = tuple(feature.to(self.dtype) for feature in features)
        if all(feature.isfinite().all() for feature in rounded):
            self._write(path, save({str(number): feature.contiguous() for number, feature in enumerate(rounded)}))
            return tuple(feature.float() for feature in rounded)
        self._stop(f"features exceed the range of {str(self.dtype).removeprefix('torch.')}; take dtype='bfloat16'")
        return tuple(feature.float() for feature in features)

    def _write(self, path: Path, body: bytes) -> None:
        if not self.writes:
            return
        # Other processes write as well.
        if self.written > SCAN_SHARE * self.limit:
            self._scan()
        if self.size + len(body) > self.limit and not self._make_room(len(body)):
            self._stop(f'{self.folder} holds the {self.limit / GIGABYTE:g} GB of max_gb')
            return
        unfinished = path.with_name(f'{path.name}.{os.getpid()}.{threading.get_ident()}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, 'big'))
            unfinished.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            reason = 'the disk is full' if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            self._stop(f'{self.folder}: {reason}')
            return
        self.size += len(body)
        self.written += len(body)

    def _stop(self, reason: str) -> None:
        if self.writes:
            warnings.warn(f'feature cache: {reason}; from now on other features are computed each time', stacklevel=2)
        self.writes = False

    def _scan(self) -> list[tuple[float, int, Path]]:
        """Measure what the folder holds; return when each file was last used, and its size."""
        used = []
        for path in self.folder.glob(f'*/*{SUFFIX}'):
            with contextlib.suppress(OSError):  # another process may have deleted it
                status = path.stat()
                used.append((status.st_mtime, status.st_size, path))
        self.size = sum(size for _, size, _ in used)
        self.written = 0
        return used

    def _make_room(self, wanted: int) -> bool:
        """Delete files that were last used before this process began, until there is room."""
        for moment, size, path in sorted(self._scan()):
            if self.size + wanted <= self.limit or moment >= self.began:
                break
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                self.size -= size
        return self.size + wanted <= self.limit


def _unpacked(content: bytes) -> Features | None:
    """Features of a file; None if it is not as this module writes it. Whoever may write to the folder can write one."""
    body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(CHECKSUM_BYTES, 'big') != checksum:
        return None
    try:
        layers = load(body)
        features = tuple(layers[str(number)].float() for number in range(len(layers)))
    except (SafetensorError, KeyError):
        return None
    return features if features and all(feature.isfinite().all() for feature in features) else None


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def digest_of(module: nn.Module) -> str:
    """Hash of all parameters and buffers of a module."""
    digest = hashlib.blake2b(digest_size=20)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + _bytes(tensor))
    return digest.hexdigest()


def arithmetic(device: str) -> tuple[Any, ...]:
    """What decides, besides numbers and network, how features are rounded."""
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    precision = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    return device, autocast, precision, torch.__version__, timm.__version__, ARITHMETIC
