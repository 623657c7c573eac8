"""The canonical on-disk form of a dataset; every reader and writer of it goes through this module.

::

    <root>/images/<id>.png     tissue image, RGB uint8; those written here are not compressed, so as to be read fast
    <root>/labels/<id>.png     instance label map, uint16, 0 = background; <id>.tif (int32) above id 65,535
    <root>/types/<id>.png      for nucleus types: index into the classes of each pixel, uint8
    <root>/ignore/<id>.png     optional: ambiguous area, non-zero = out of loss and metrics
    <root>/meta.json           name, classes, licence, citation, source; group and mpp of each image
    <root>/splits/<name>.json  {"train": [ids], "val": [ids], ...}
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from mmgfnuc.datasets.bad_file import BadFileError, is_utf8, require_file, unreadable
from mmgfnuc.datasets.colours import RGBImage

# The one reader of images reads the files of the form; users of the form find it here, too.
from mmgfnuc.datasets.images import LabelMap, Mask
from mmgfnuc.datasets.images import TypeMap as TypeMap
from mmgfnuc.datasets.images import check_image as check_image
from mmgfnuc.datasets.images import read_ignore as read_ignore
from mmgfnuc.datasets.images import read_image as read_image
from mmgfnuc.datasets.images import read_label_map as read_label_map
from mmgfnuc.datasets.images import read_types as read_types
from mmgfnuc.datasets.pixel_size import LARGEST, SMALLEST, is_mpp
from mmgfnuc.errors import UserError
from mmgfnuc.files import whole_file, write_json

CLASSES = ['background', 'nucleus']
META_KEYS = ('name', 'classes', 'licence', 'citation', 'source', 'images')
# Characters of a wrong value in a message.
SHOWN = 60
LARGEST_PNG_ID = np.iinfo(np.uint16).max
PREPARE_HINT = 'prepare it first: mmgfnuc prepare DATASET ... --out {root} (--help lists them)'


@dataclass(frozen=True)
class SamplePaths:
    """The files of one sample; `ignore` is None where no area is ambiguous, `types` where the set has no types."""

    image: Path
    label: Path
    ignore: Path | None
    types: Path | None


def count_nuclei(instances: LabelMap) -> int:
    """Number of distinct ids above 0.

    Shape:
        - instances: (H, W).
    """
    return int(np.count_nonzero(np.unique(instances)))


def image_digest(image: RGBImage) -> str:
    """Hash of the pixels of an image.

    Shape:
        - image: (H, W, 3).
    """
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def write_sample(
    root: str | Path,
    sample_id: str,
    image: RGBImage,
    instances: NDArray[np.integer],
    ignore: Mask | None = None,
    types: NDArray[np.integer] | None = None,
) -> None:
    """Write one sample, replacing an earlier one of the same id.

    Each file appears whole or not at all, and the image last: an id listed by `list_ids` is complete.

    Shape:
        - image: (H, W, 3), uint8.
        - instances: (H, W), integers >= 0; ids are kept as they are.
        - ignore: (H, W), bool.
        - types: (H, W), integers from 0 to 255.

    Raises:
        UserError: A shape or type differs from the above, or the id is not a plain file name.

    """
    _check_sample(sample_id, image, instances, ignore, types)
    root = Path(root)
    label_png = root / 'labels' / f'{sample_id}.png'
    label_tiff = root / 'labels' / f'{sample_id}.tif'
    if instances.max(initial=0) > LARGEST_PNG_ID:
        wide = instances.astype(np.int32)
        with whole_file(label_tiff) as file:
            tifffile.imwrite(file, wide, compression='zlib')
        label_png.unlink(missing_ok=True)
    else:
        _write_png(label_png, instances.astype(np.uint16))
        label_tiff.unlink(missing_ok=True)
    ignored = None if ignore is None else ignore.astype(np.uint8) * 255
    for kind, array in (('ignore', ignored), ('types', types)):
        path = root / kind / f'{sample_id}.png'
        if array is None:
            path.unlink(missing_ok=True)
        else:
            _write_png(path, array.astype(np.uint8))
    # Not compressed: more bytes, but decoding takes most of the time of loading, in every epoch.
    _write_png(root / 'images' / f'{sample_id}.png', image, compression=0)


def sample_paths(root: str | Path, sample_id: str) -> SamplePaths:
    """Files of one sample; whether image and label exist is left to the reader and the validator."""
    root = Path(root)
    label_tiff = root / 'labels' / f'{sample_id}.tif'
    ignore, types = (root / kind / f'{sample_id}.png' for kind in ('ignore', 'types'))
    return SamplePaths(
        image=root / 'images' / f'{sample_id}.png',
        label=label_tiff if label_tiff.exists() else root / 'labels' / f'{sample_id}.png',
        ignore=ignore if ignore.exists() else None,
        types=types if types.exists() else None,
    )


def list_ids(root: str | Path) -> list[str]:
    """Sorted ids of all images.

    Raises:
        UserError: `root` holds no dataset; the text gives the command that prepares one. Or a name is not UTF-8.

    """
    folder = Path(root) / 'images'
    if not folder.is_dir():
        raise UserError(f'{root} holds no dataset (no folder images/); {PREPARE_HINT.format(root=root)}')
    ids = sorted(path.stem for path in folder.glob('*.png') if not path.name.startswith('.'))
    strange = [sample_id for sample_id in ids if not is_utf8(sample_id)]
    if strange:
        raise UserError(f'{folder}: {strange[0]!r} is not a name in UTF-8; rename the files of this image')
    return ids


def write_meta(root: str | Path, meta: dict[str, Any]) -> None:
    """Write meta.json: name, classes, licence, citation, source, and `images`: {id: {"group", "mpp"}}.

    `mpp` is micrometres per pixel, None where unknown. An image may have a `magnification` (of the objective) too.
    `splits_with_leaks`, a list, names splits that share groups or images between their parts on purpose.

    Raises:
        UserError: A key is missing.

    """
    _check_meta(meta, Path(root) / 'meta.json')
    write_json(Path(root) / 'meta.json', meta)


def read_meta(root: str | Path) -> dict[str, Any]:
    """Read meta.json.

    Raises:
        BadFileError: The file is missing, is not JSON, or lacks a key.

    """
    path = Path(root) / 'meta.json'
    if not path.exists():
        raise BadFileError(path, 'missing', PREPARE_HINT.format(root=root))
    meta = _read_json(path)
    _check_meta(meta, path)
    return meta


def write_split(root: str | Path, name: str, parts: dict[str, list[str]]) -> Path:
    """Write splits/<name>.json, the ids of each part, and give its path."""
    path = Path(root) / 'splits' / f'{name}.json'
    write_json(path, parts)
    return path


def read_split(root: str | Path, name: str) -> dict[str, list[str]]:
    """Read splits/<name>.json: {part: ids}.

    Raises:
        BadFileError: The split does not exist (the text lists those that do), or is not {part: [ids]}.

    """
    path = Path(root) / 'splits' / f'{name}.json'
    if not path.is_file():
        there = ', '.join(list_splits(root)) or 'none'
        raise BadFileError(path, f'no split {name!r}', f'splits there: {there}')
    parts = _read_json(path)
    if not all(isinstance(ids, list) and all(isinstance(i, str) for i in ids) for ids in parts.values()):
        raise BadFileError(
            path, 'a part is not a list of ids', 'write it as {"train": ["id", ...], "val": ["id", ...]}'
        )
    return parts


def list_splits(root: str | Path) -> list[str]:
    """Sorted names of the splits that are there."""
    return sorted(path.stem for path in (Path(root) / 'splits').glob('*.json'))


def _check_sample(
    sample_id: str,
    image: RGBImage,
    instances: NDArray[np.integer],
    ignore: Mask | None,
    types: NDArray[np.integer] | None,
) -> None:
    if not sample_id or sample_id != Path(sample_id).name:
        raise UserError(f'id {sample_id!r} is not a plain file name; use letters, digits, "_" and "-"')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f'{sample_id}: image is {image.dtype} {image.shape}; give uint8 (H, W, 3)')
    if not np.issubdtype(instances.dtype, np.integer) or instances.min(initial=0) < 0:
        raise UserError(f'{sample_id}: instances are {instances.dtype} or negative; give integer ids from 0')
    if types is not None and not (np.issubdtype(types.dtype, np.integer) and np.isin(types, range(256)).all()):
        raise UserError(f'{sample_id}: types are {types.dtype}, or leave 0 to 255; give indices into the classes')
    for name, array in (('instances', instances), ('ignore', ignore), ('types', types)):
        if array is not None and array.shape != image.shape[:2]:
            raise UserError(f'{sample_id}: {name} {array.shape} and image {image.shape[:2]} differ; give equal (H, W)')


def _write_png(path: Path, array: NDArray, compression: int = 6) -> None:
    """Write without PNG's filters, which make label maps larger and slower to read."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, compression, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    _, encoded = cv2.imencode('.png', array[..., ::-1] if array.ndim == 3 else array, settings)
    with whole_file(path) as file:
        file.write_bytes(encoded.tobytes())


def _read_json(path: Path) -> dict[str, Any]:
    require_file(path)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error
    if not isinstance(content, dict):
        raise BadFileError(path, f'holds a {type(content).__name__}', 'write a JSON object')
    return content


def _check_meta(meta: dict[str, Any], path: Path) -> None:
    missing = [key for key in META_KEYS if key not in meta]
    if missing:
        raise BadFileError(path, f'lacks {", ".join(missing)}', f'give all of {", ".join(META_KEYS)}')
    for key, (is_right, form) in META_FORMS.items():
        if key in meta and not is_right(meta[key]):
            raise BadFileError(path, f'"{key}" is {shortened(meta[key])}', f'give {form}')


def shortened(value: object) -> str:
    """Show the beginning of a value in one line."""
    text = repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}...'


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def is_described(entry: object) -> bool:
    """Whether an entry of `images` in meta.json has a group, and an mpp that is None or one of a microscope."""
    if not (isinstance(entry, dict) and _is_text(entry.get('group')) and 'mpp' in entry):
        return False
    return entry['mpp'] is None or is_mpp(entry['mpp'])


IMAGE_FORM = f'{{"group": "name", "mpp": number from {SMALLEST} to {LARGEST:g}, or null}}'
META_FORMS: dict[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(('name', 'licence', 'citation', 'source'), (_is_text, 'a text')),
    'classes': (lambda value: bool(value) and _is_list_of_texts(value), 'a list of names, the background first'),
    'splits_with_leaks': (_is_list_of_texts, 'a list of names of splits'),
    'images': (lambda value: isinstance(value, dict), f'a table: {{"id": {IMAGE_FORM}}}'),
}
