"""Where the weights of a model are: a path, the folder `$MMGFNUC_WEIGHTS`, or the Hugging Face hub."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse
from urllib.request import getproxies

import timm
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from mmgfnuc.errors import UserError

WEIGHTS_ENV = 'MMGFNUC_WEIGHTS'
SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin')
# What a config says for an encoder without weights.
RANDOM = 'random'
# How long to wait for an answer of the hub, which else is tried again for half a minute.
SECONDS_TO_CONNECT = 3
# Files of a folder as the hub has them, the first there is being taken.
FOLDER_FILES = (
    'model.safetensors',
    'open_clip_model.safetensors',
    'pytorch_model.bin',
    'open_clip_pytorch_model.bin',
)


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """Where weights are offered, and what a config calls them.

    Attributes:
        name: of the model.
        hub: repository on huggingface.co.
        file: name of the weight file there; the path of a file that is on no page.
        address: where the publisher offers the weights.
        sha256: of the publisher's file, where the publisher gives it.
        config_key: setting that names the file.
        untrained: its value for a model without weights.
    """

    name: str
    hub: str | None = None
    file: str | None = None
    address: str | None = None
    sha256: str | None = None
    config_key: str
    untrained: str | None = RANDOM

    @property
    def page(self) -> str:
        """Address to send a user to who lacks the weights; empty where none is known."""
        return self.address or (f'https://huggingface.co/{self.hub}' if self.hub else '')


def find_weights(weights: str | Path | None, source: WeightSource) -> Path:
    """Find the file that a config means.

    Args:
        weights: a file, a folder as the hub has it, or a name in the folder `$MMGFNUC_WEIGHTS` (its suffix may be left
            out). None means the source's name: also found there under its publisher's file name or timm's, and, if
            it is not there, fetched from the hub.
        source: of the weights.

    Raises:
        UserError: no such file, or the hub does not give it; says what to do.
    """
    if path := _in_folders(weights, source):
        return path
    if weights or not source.hub or not source.file:
        fix = f'download them from {source.page} and give their path' if source.page else 'give the path of their file'
        raise UserError(
            f"weights '{weights or source.file or source.name}' ({source.config_key}) are not there {_looked()}; "
            f'{fix}, or set {source.config_key}={source.untrained!r} for an untrained encoder'
        )
    return _fetch(source, source.hub, source.file)


def weights_at_hand(weights: str | None, source: WeightSource) -> bool:
    """Say whether `find_weights` finds the file without a download."""
    if _in_folders(weights, source):
        return True
    if weights or not source.hub or not source.file:
        return False
    return _in_cache(source.hub, source.file) is not None


def _looked() -> str:
    """Say in an error that the folder of weights was looked into, or that there is none."""
    folder = os.environ.get(WEIGHTS_ENV)
    return f'nor in ${WEIGHTS_ENV} ({folder})' if folder else f'and ${WEIGHTS_ENV} is not set'


def _in_folders(weights: str | Path | None, source: WeightSource) -> Path | None:
    for candidate in _candidates(weights, source):
        if candidate.is_file():
            return candidate
        if candidate.is_dir():
            for file in (*((source.file,) if source.file else ()), *FOLDER_FILES):
                if (candidate / file).is_file():
                    return candidate / file
    return None


def _candidates(weights: str | Path | None, source: WeightSource) -> Iterator[Path]:
    # The file of an entry of one's own is a path.
    if path := weights or (not source.page and source.file):
        yield Path(path).expanduser()
    if folder := os.environ.get(WEIGHTS_ENV):
        for name in [str(weights)] if weights else [source.name, *_official_names(source)]:
            yield from (Path(folder) / (name + suffix) for suffix in ('', *SUFFIXES))


def _official_names(source: WeightSource) -> list[str]:
    """The publisher's file name; timm's name with its tag, and without it where timm means the same tag by that."""
    names = [_published_name(source)]
    hub = PurePosixPath(source.hub or '')
    if hub.parent.name == 'timm':
        name, _, tag = hub.name.partition('.')
        names += [hub.name] + [name] * (timm.models.get_pretrained_cfg(name).tag == tag)
    return [name for name in names if name]


def check_published(path: Path, digest: str, source: WeightSource) -> None:
    """Compare a file that bears the publisher's name with the SHA-256 that the publisher gives, if any.

    Raises:
        UserError: it is another file.
    """
    if source.sha256 and path.name == _published_name(source) and digest != source.sha256:
        raise UserError(
            f"{path} bears the name of the publisher's file, but has SHA-256 {digest[:12]}... and not "
            f'{source.sha256[:12]}...; download it again from {source.page}, or rename it if it is your own'
        )


def _published_name(source: WeightSource) -> str:
    """Name of the file that the publisher offers; empty where it tells nothing, as `model.safetensors`."""
    name = PurePosixPath(urlparse(source.address or '').path).name
    if name.endswith(SUFFIXES):
        return name
    return '' if source.hub else source.file or ''


def _in_cache(hub: str, file: str) -> Path | None:
    cached = try_to_load_from_cache(hub, file)
    return Path(cached) if isinstance(cached, str) else None


def _fetch(source: WeightSource, hub: str, file: str) -> Path:
    page = f'https://huggingface.co/{hub}'
    if not hub_answers():
        if cached := _in_cache(hub, file):
            return cached
        raise _unreachable(source, file, page)
    try:
        return Path(hf_hub_download(hub, file))
    except GatedRepoError as error:
        raise UserError(
            f"the weights of '{source.name}' are gated: agree to the terms at {page}, then log in (`hf auth login`, or "
            'set HF_TOKEN)'
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(source, file, page) from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise UserError(f"the hub has no {file} in {hub} ('{source.name}'); see {source.page}") from error
    except HfHubHTTPError as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f"the hub refuses {file} of {hub} ('{source.name}'): {reason}") from error
    except OSError as error:  # offline mode, or a network that does not answer
        raise _unreachable(source, file, page) from error


def hub_answers() -> bool:
    """Say whether a connection to the hub can be made; left to its own client where that is offline or has a proxy."""
    address = urlparse(constants.ENDPOINT)
    if constants.is_offline_mode() or {address.scheme, 'all'} & getproxies().keys():
        return True
    port = address.port or (443 if address.scheme == 'https' else 80)
    try:
        socket.create_connection((address.hostname, port), SECONDS_TO_CONNECT).close()
    except OSError:
        return False
    return True


def _unreachable(source: WeightSource, file: str, page: str) -> UserError:
    return UserError(
        f"weights '{source.name}' ({source.config_key}) are not there {_looked()}, and the hub cannot be "
        f'reached; download {file} from {page} and give its path, or set {source.config_key}={source.untrained!r} for '
        'an untrained encoder'
    )
