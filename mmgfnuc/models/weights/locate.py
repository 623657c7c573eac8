"""Where the weights of an encoder are: a path, the folder `$MMGFNUC_WEIGHTS`, or the Hugging Face hub."""

import os
import socket
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
from mmgfnuc.models.weights.files import SUFFIXES, WEIGHTS_ENV

from .catalogue import Entry

CONFIG_KEY = 'model.foundation.weights'
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


def find_weights(weights: str | Path | None, entry: Entry) -> Path:
    """Find the file that a config means.

    Args:
        weights: a file, a folder as the hub has it, or a name in the folder `$MMGFNUC_WEIGHTS` (its suffix may be left
            out). None means the entry's name: also found there under its publisher's file name or timm's, and, if
            it is not there, fetched from the hub.
        entry: of the encoder.

    Raises:
        UserError: no such file, or the hub does not give it; says what to do.
    """
    here = [Path(weights).expanduser()] if weights else []
    folder = os.environ.get(WEIGHTS_ENV)
    if folder:
        names = [str(weights)] if weights else [entry.name, *_official_names(entry)]
        here += [Path(folder) / (name + suffix) for name in names for suffix in ('', *SUFFIXES)]
    for candidate in here:
        if candidate.is_file():
            return candidate
        if candidate.is_dir() and (weights or candidate != Path(folder or '')):
            for file in (*((entry.file,) if entry.file else ()), *FOLDER_FILES):
                if (candidate / file).is_file():
                    return candidate / file
    looked = f'nor in ${WEIGHTS_ENV} ({folder})' if folder else f'and ${WEIGHTS_ENV} is not set'
    if weights or not (entry.hub and entry.file):
        raise UserError(
            f"weights '{weights or entry.name}' ({CONFIG_KEY}) are not there {looked}; download them from {entry.page} "
            f"and give their path, or set {CONFIG_KEY}='{RANDOM}' for an untrained encoder"
        )
    return _fetch(entry, entry.hub, entry.file, looked)


def _official_names(entry: Entry) -> list[str]:
    """The publisher's file name; timm's name with its tag, and without it where timm means the same tag by that."""
    names = [_published_name(entry)]
    hub = PurePosixPath(entry.hub or '')
    if hub.parent.name == 'timm':
        name, _, tag = hub.name.partition('.')
        names += [hub.name] + [name] * (timm.models.get_pretrained_cfg(name).tag == tag)
    return [name for name in names if name]


def check_published(path: Path, digest: str, entry: Entry) -> None:
    """Compare a file that bears the publisher's name with the SHA-256 that the publisher gives, if any.

    Raises:
        UserError: it is another file.
    """
    if entry.sha256 and path.name == _published_name(entry) and digest != entry.sha256:
        raise UserError(
            f"{path} bears the name of the publisher's file, but has SHA-256 {digest[:12]}... and not "
            f'{entry.sha256[:12]}...; download it again from {entry.page}, or rename it if it is your own'
        )


def _published_name(entry: Entry) -> str:
    """Name of the file that the publisher offers; empty where it tells nothing, as `model.safetensors`."""
    name = PurePosixPath(urlparse(entry.address or '').path).name
    if name.endswith(SUFFIXES):
        return name
    return '' if entry.hub else entry.file or ''


def _fetch(entry: Entry, hub: str, file: str, looked: str) -> Path:
    page = f'https://huggingface.co/{hub}'
    if not _hub_answers():
        cached = try_to_load_from_cache(hub, file)
        if isinstance(cached, str):
            return Path(cached)
        raise _unreachable(entry, file, page, looked)
    try:
        return Path(hf_hub_download(hub, file))
    except GatedRepoError as error:
        raise UserError(
            f"the weights of '{entry.name}' are gated: agree to the terms at {page}, then log in (`hf auth login`, or "
            'set HF_TOKEN)'
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(entry, file, page, looked) from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise UserError(f"the hub has no {file} in {hub} ('{entry.name}'); see {entry.page}") from error
    except HfHubHTTPError as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f"the hub refuses {file} of {hub} ('{entry.name}'): {reason}") from error
    except OSError as error:  # offline mode, or a network that does not answer
        raise _unreachable(entry, file, page, looked) from error


def _hub_answers() -> bool:
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


def _unreachable(entry: Entry, file: str, page: str, looked: str) -> UserError:
    return UserError(
        f"weights '{entry.name}' ({CONFIG_KEY}) are not there {looked}, and the hub cannot be reached; download {file} "
        f"from {page} and give its path, or set {CONFIG_KEY}='{RANDOM}' for an untrained encoder"
    )
