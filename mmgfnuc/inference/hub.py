"""Ready models on the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from mmgfnuc.errors import UserError
from mmgfnuc.models.weights.licences import hub_licence
from mmgfnuc.models.weights.locate import hub_answers

from .ready import CARD, FILES, HUB_ID, PICTURES, own_file, read_ready

PAGE = 'README.md'
PAGE_HEAD = """---
license: {licence}
library_name: mmgfnuc
pipeline_tag: image-segmentation
---

"""


def fetch(hub_id: str) -> Path:
    """Fetch a ready model, or take it from the cache of the hub; gives its folder.

    Raises:
        UserError: there is none of this name, or it cannot be reached.
    """
    check_id(hub_id)
    with _told(hub_id, 'loaded'):
        # Without a network what was fetched before is enough.
        return Path(
            huggingface_hub.snapshot_download(hub_id, allow_patterns=list(FILES), local_files_only=not hub_answers())
        )


def push(folder: Path, hub_id: str) -> str:
    """Upload a ready model with the pictures of its card, which is the page too; gives its address.

    Raises:
        UserError: the folder is not a ready model, the hub refuses it or cannot be reached.
    """
    check_id(hub_id)
    licence = read_ready(folder).config['licence']
    page = PAGE_HEAD.format(licence=hub_licence(licence)) + (folder / CARD).read_text(encoding='utf-8')
    add = huggingface_hub.CommitOperationAdd
    pictures = [f'{PICTURES}/{path.name}' for path in sorted((folder / PICTURES).glob('*.jpg'))]
    files = [add(name, str(own_file(folder, name))) for name in (*FILES, *pictures)] + [add(PAGE, page.encode())]
    with _told(hub_id, 'pushed'):
        hub = huggingface_hub.HfApi()
        hub.create_repo(hub_id, exist_ok=True)
        hub.create_commit(hub_id, files, commit_message='Weights, config, card and scores')
    return f'https://huggingface.co/{hub_id}'


def check_id(hub_id: str) -> None:
    """Check that a name may be one on the hub.

    Raises:
        UserError: it may not.
    """
    try:
        validate_repo_id(hub_id)
        valid = bool(HUB_ID.fullmatch(hub_id))
    except HFValidationError:
        valid = False
    if not valid:
        raise UserError(f"'{hub_id:.120}' is not a name on huggingface.co; give owner/name, such as ada/he-nuclei")


@contextmanager
def _told(hub_id: str, what: str) -> Iterator[None]:
    """Turn what the client of the hub raises into one line."""
    start, page = f"model '{hub_id}' cannot be {what}", f'https://huggingface.co/{hub_id}'
    try:
        yield
    except GatedRepoError as error:
        raise UserError(f'{start}: it is gated; agree to the terms at {page}, then log in (`hf auth login`)') from error
    except RepositoryNotFoundError as error:
        fix = 'correct the name, or give the path of a folder; a private one needs `hf auth login`'
        raise UserError(f'{start}: huggingface.co has none of this name; {fix}') from error
    except LocalTokenNotFoundError as error:
        raise UserError(f'{start}: log in first (`hf auth login`, or set HF_TOKEN)') from error
    except HfHubHTTPError as error:
        raise UserError(f'{start}: the hub refuses it ({str(error).splitlines()[0]})') from error
    except (OSError, ValueError) as error:  # offline mode, a network that does not answer, nothing in the cache
        fix = f'get its files from {page} and give the path of their folder'
        raise UserError(f'{start}: there is no folder of this name, and the hub cannot be reached; {fix}') from error
