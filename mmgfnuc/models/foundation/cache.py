"""Features of a frozen encoder, kept on disk."""

import contextlib
import errno
import hashlib
import os
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from mmgfnuc.errors import UserError

Features = tuple[Tensor, ...]
DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
SUFFIX = '.features'
GIGABYTE = 10**9
CHECKSUM_BYTES = 4


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
    """Features by what they are of: a hash of the exact input of the encoder, and of its weights and settings.

    A file holds the features of one image, with a checksum. One that is damaged is made anew. Files are written under
    another name and then renamed, so that processes never see half of one; two that make the same file write the same.
    A full disk is reported once, and the training goes on without writing.

    Args:
        settings: see CacheSettings.
        identity: all that the features depend on besides the images.
    """

    def __init__(self, settings: CacheSettings, identity: str) -> None:
        self.folder = Path(settings.folder)
        self.dtype = DTYPES[settings.dtype]
        self.limit = settings.max_gb * GIGABYTE
        self.identity = hashlib.blake2b(f'{identity} {settings.dtype}'.encode(), digest_size=16).digest()
        self.writes = True
        self.began = time.time()
        self.size = sum(path.stat().st_size for path in self._files())
        self.hits = self.misses = 0

    @classmethod
    def of(cls, settings: Mapping[str, Any], encoder: Any) -> 'FeatureCache':
        """Make the cache of an encoder from what a config says.

        Raises:
            UserError: there is no such setting or value, or the folder cannot be written to.
        """
        names = [field.name for field in fields(CacheSettings)]
        unknown = sorted(set(settings) - set(names))
        if unknown or 'folder' not in settings:
            wrong = f"has no '{unknown[0]}'" if unknown else "lacks 'folder'"
            raise UserError(f'cache {wrong}; it takes {", ".join(names)}')
        chosen = CacheSettings(**settings)
        if chosen.dtype not in DTYPES:
            raise UserError(f"cache: dtype='{chosen.dtype}' is unknown; choose one of {', '.join(DTYPES)}")
        try:
            Path(chosen.folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cache: folder '{chosen.folder}' cannot be made ({error.strerror}); give another"
            ) from error
        return cls(chosen, _identity(encoder))

    def _files(self) -> list[Path]:
        return list(self.folder.glob(f'*/*{SUFFIX}'))

    def _path(self, image: Tensor) -> Path:
        digest = hashlib.blake2b(repr((tuple(image.shape), image.dtype)).encode(), key=self.identity, digest_size=20)
        digest.update(_bytes(image))
        name = digest.hexdigest()
        return self.folder / name[:2] / (name + SUFFIX)

    def features(self, images: Tensor, encode: Callable[[Tensor], Features]) -> Features:
        """Return the features of a batch; those that are not kept yet are computed, together, and kept."""
        paths = [self._path(image) for image in images]
        found = [self._read(path) for path in paths]
        missing = [index for index, features in enumerate(found) if features is None]
        self.hits, self.misses = self.hits + len(images) - len(missing), self.misses + len(missing)
        if missing:
            computed = encode(images[missing])
            for row, index in enumerate(missing):
                features = tuple(feature[row].to('cpu', self.dtype) for feature in computed)
                self._write(paths[index], features)
                found[index] = features
        kept = [features for features in found if features is not None]
        return tuple(torch.stack(layer).to(images.device, torch.float32) for layer in zip(*kept, strict=True))

    def _read(self, path: Path) -> Features | None:
        """Read a file; None if it is not there or damaged."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if zlib.crc32(body).to_bytes(CHECKSUM_BYTES, 'big') != checksum:
            warnings.warn(f'{path} is damaged; its features are computed again', stacklevel=2)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        layers = load(body)
        return tuple(layers[str(number)] for number in range(len(layers)))

    def _write(self, path: Path, features: Features) -> None:
        if not self.writes:
            return
        body = save({str(number): feature.contiguous() for number, feature in enumerate(features)})
        if self.size + len(body) > self.limit and not self._make_room(len(body)):
            self._stop(f'{self.folder} holds the {self.limit / GIGABYTE:g} GB of max_gb')
            return
        unfinished = path.with_name(f'{path.name}.{os.getpid()}.{threading.get_ident()}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, 'big'))
            unfinished.replace(path)
            self.size += len(body)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            reason = 'the disk is full' if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            self._stop(f'{self.folder}: {reason}')

    def _stop(self, reason: str) -> None:
        self.writes = False
        warnings.warn(f'feature cache: {reason}; from now on other features are computed each time', stacklevel=2)

    def _make_room(self, wanted: int) -> bool:
        """Delete files that were last used before this process began, until there is room."""
        used = []
        for path in self._files():
            with contextlib.suppress(OSError):  # another process may have deleted it
                status = path.stat()
                used.append((status.st_mtime, status.st_size, path))
        self.size = sum(size for _, size, _ in used)
        for moment, size, path in sorted(used):
            if self.size + wanted <= self.limit or moment >= self.began:
                break
            path.unlink(missing_ok=True)
            self.size -= size
        return self.size + wanted <= self.limit


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _identity(encoder: Any) -> str:
    """All that decides the features of an image: the very weights, and the settings of the encoder."""
    entry = encoder.entry
    weights = bytes(encoder.weights_sha256.tolist()).hex()
    if not encoder.weights_sha256.any():  # random weights, which no file holds
        digest = hashlib.sha256()
        for name, tensor in encoder.network.state_dict().items():
            digest.update(
                name.encode() + tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
        weights = digest.hexdigest()
    settings = (entry.name, encoder.arch, encoder.input_size, encoder.out_layers)
    return f'{weights} {settings} torch {torch.__version__}'
