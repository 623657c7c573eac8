"""What readers did that a user should know: a file for each image, in the dataset, and a line for each kind."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmgfnuc.files import write_json

FOLDER = 'notices'
SHOWN_IMAGES = 3
SHOWN_NAMES = 3


def write_notices(root: Path, sample_id: str, notices: Mapping[str, Sequence[str]]) -> None:
    """Write what was done to which outlines of an image."""
    write_json(root / FOLDER / f'{sample_id}.json', notices)


def read_notices(root: Path) -> list[str]:
    """One line for each kind of notice of a dataset: what, how often, and the first images and outlines."""
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for path in sorted((root / FOLDER).glob('*.json')):
        for what, names in json.loads(path.read_text(encoding='utf-8')).items():
            found[what][path.stem] = names
    return [f'{what}: {sum(map(len, images.values()))} ({_places(images)})' for what, images in found.items()]


def _places(images: Mapping[str, Sequence[str]]) -> str:
    shown = [f'{image}: {shortened(names)}' for image, names in list(images.items())[:SHOWN_IMAGES]]
    more = [f'{len(images) - SHOWN_IMAGES} more images, all in {FOLDER}/'] if len(images) > SHOWN_IMAGES else []
    return '; '.join(shown + more)


def shortened(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f' and {len(names) - SHOWN_NAMES} more' if len(names) > SHOWN_NAMES else ''
    return ', '.join(names[:SHOWN_NAMES]) + more
