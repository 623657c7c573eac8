"""The canonical on-disk form of a dataset; every reader and writer of it goes through this module.

::

    <root>/images/<id>.png     tissue image, RGB uint8; those written here are not compressed, so as to be read fast
    <root>/labels/<id>.png     instance label map, uint16, 0 = background; <id>.tif (int32) above id 65,535
    <root>/types/<id>.png      where classes are told apart: index into the classes of each pixel, uint8
    <root>/ignore/<id>.png     optional: ambiguous area, non-zero = out of loss and metrics
    <root>/meta.json           name, classes, licence, citation, source; group and mpp of each image
    <root>/splits/<name>.json  {"train": [ids], "val": [ids], ...}

Source: code: own.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mmgfnuc.datasets.bad_file import BadFileError
from mmgfnuc.errors import UserError
from mmgfnuc.files import whole_file

CLASSES = ['background', 'nucleus']
META_KEYS = ('name', 'classes', 'licence', 'citation', 'source', 'images')
LARGEST_PNG_ID = np.iinfo(np.uint16).max
PREPARE_HINT = 'prepare it first: python tools/datasets/prepare.py DATASET ... --out {root} (--help lists them)'

RGBImage = NDArray[np.uint8]
TypeMap = NDArray[np.uint8]
LabelMap = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SamplePaths:
    """The files of one sample; `ignore` is None where no area is ambiguous, `types` where no types are told apart."""

    image: Path
    label: Path
    ignore: Path | None
    types: Path | None


def read_image(path: str | Path) -> RGBImage:
    """Read a tissue image as RGB; an alpha channel is dropped, grey is repeated over the three channels.

    Shape:
        - returns: (H, W, 3), uint8.

    Raises:
        BadFileError: The file is missing, unreadable, truncated, or has more than 8 bits per channel.

    """
    path = Path(path)
    with _open(path) as picture:
        _require_8_bit(path, picture)
        return np.array(_decoded(path, picture).convert('RGB'))


def check_image(path: str | Path) -> tuple[int, int]:
    """Height and width in pixels of an image that `read_image` can read.

    A PNG is proved whole by the checksum of each of its chunks, some forty times faster than decoding it.

    Raises:
        BadFileError: As `read_image`.
    """
    path = Path(path)
    with _open(path) as picture:
        _require_8_bit(path, picture)
        width, height = picture.size
        if picture.format != 'PNG':
            return read_image(path).shape[:2]
        try:
            picture.verify()
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(path, error) from error
    return height, width


def read_label_map(path: str | Path) -> LabelMap:
    """Read an instance label map from PNG (8 or 16 bit) or TIFF (any integer type); 0 is background.

    Shape:
        - returns: (H, W), int32.

    Raises:
        BadFileError: The file is missing or unreadable, has channels, or holds values that are no ids
            (fractions, negatives, above 2**31 - 1).

    """
    path = Path(path)
    labels = _read_tiff(path) if path.suffix.lower() in ('.tif', '.tiff') else _read_raw(path)
    if labels.ndim != 2:
        raise BadFileError(path, f'shape {labels.shape} is not (H, W)', 'give one integer per pixel, no colours')
    if labels.dtype != bool and not np.issubdtype(labels.dtype, np.integer):
        raise BadFileError(path, f'labels of type {labels.dtype} are not integers', 'save the ids as uint16')
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.int32).max):
        raise BadFileError(
            path, f'ids {labels.min()} to {labels.max()} leave 0 to 2**31 - 1', 'renumber the nuclei from 1'
        )
    return labels.astype(np.int32)


def read_ignore(path: str | Path) -> Mask:
    """Read an ambiguous-area mask: True where the file is not zero.

    Shape:
        - returns: (H, W), bool.

    Raises:
        BadFileError: The file is missing or unreadable.

    """
    path = Path(path)
    with _open(path) as picture:
        grey = _decoded(path, picture)
        # Deep grey is taken as it is: a conversion to 8 bits may lose small values.
        return np.array(grey if grey.mode.startswith('I') else grey.convert('L')) > 0


def read_types(path: str | Path) -> TypeMap:
    """Read a map of nucleus types: the class of each pixel, 0 = background.

    Shape:
        - returns: (H, W), uint8.

    Raises:
        BadFileError: The file is missing, unreadable, has channels, or more than 256 classes.

    """
    types = read_label_map(path)
    if types.max(initial=0) > np.iinfo(np.uint8).max:
        raise BadFileError(Path(path), f'type {types.max()} is above 255', 'give indices into the classes of meta.json')
    return types.astype(np.uint8)


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
        UserError: A shape or type differs from the above, or the id is no plain file name.

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
        UserError: `root` holds no dataset; the text gives the command that prepares one.

    """
    folder = Path(root) / 'images'
    if not folder.is_dir():
        raise UserError(f'{root} holds no dataset (no folder images/); {PREPARE_HINT.format(root=root)}')
    return sorted(path.stem for path in folder.glob('*.png') if not path.name.startswith('.'))


def write_meta(root: str | Path, meta: dict[str, Any]) -> None:
    """Write meta.json: name, classes, licence, citation, source, and `images`: {id: {"group", "mpp"}}.

    `mpp` is micrometres per pixel, None where unknown. An image may have a `magnification` (of the objective) too.
    `splits_with_leaks`, a list, names splits that share groups or images between their parts on purpose.

    Raises:
        UserError: A key is missing.

    """
    _require_keys(meta, Path(root) / 'meta.json')
    _write_json(Path(root) / 'meta.json', meta)


def read_meta(root: str | Path) -> dict[str, Any]:
    """Read meta.json.

    Raises:
        BadFileError: The file is missing, is no JSON, or lacks a key.

    """
    path = Path(root) / 'meta.json'
    if not path.is_file():
        raise BadFileError(path, 'missing', PREPARE_HINT.format(root=root))
    meta = _read_json(path)
    _require_keys(meta, path)
    return meta


def write_split(root: str | Path, name: str, parts: dict[str, list[str]]) -> Path:
    """Write splits/<name>.json, the ids of each part, and give its path."""
    path = Path(root) / 'splits' / f'{name}.json'
    _write_json(path, parts)
    return path


def read_split(root: str | Path, name: str) -> dict[str, list[str]]:
    """Read splits/<name>.json: {part: ids}.

    Raises:
        BadFileError: There is no such split (the text lists those there), or it is no {part: [ids]}.

    """
    path = Path(root) / 'splits' / f'{name}.json'
    if not path.is_file():
        there = ', '.join(list_splits(root)) or 'none'
        raise BadFileError(path, f'no split {name!r}', f'splits there: {there}')
    parts = _read_json(path)
    if not all(isinstance(ids, list) and all(isinstance(i, str) for i in ids) for ids in parts.values()):
        raise BadFileError(path, 'a part is no list of ids', 'write it as {"train": ["id", ...], "val": ["id", ...]}')
    return parts


def list_splits(root: str | Path) -> list[str]:
    """Sorted names of the splits that are there."""
    return sorted(path.stem for path in (Path(root) / 'splits').glob('*.json'))


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise BadFileError(path, 'missing', 'put the file there') from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _require_8_bit(path: Path, picture: Image.Image) -> None:
    # Pillow would clip deeper grey to 255, and keep only the high byte of deeper colours, without a word: those it
    # reads with a decoder for 16 bits, under a mode of 8.
    decoders = [str(entry[3]) for entry in getattr(picture, 'tile', ())]
    if picture.mode.startswith(('I', 'F')) or any(';16' in decoder for decoder in decoders):
        raise BadFileError(path, f'pixels of type {picture.mode!r} with more than 8 bits', 'save it as 8-bit RGB')


def _decoded(path: Path, picture: Image.Image) -> Image.Image:
    """Force the decoding that Pillow puts off, so that a truncated file is found here."""
    try:
        picture.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(path, error) from error
    return picture


def _read_raw(path: Path) -> NDArray:
    with _open(path) as picture:
        return np.array(_decoded(path, picture))


def _read_tiff(path: Path) -> NDArray:
    try:
        return tifffile.imread(path)
    except FileNotFoundError:
        raise BadFileError(path, 'missing', 'put the file there') from None
    # A damaged TIFF fails anywhere in its tags or strips: struct, zlib, index and value errors alike.
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> BadFileError:
    reason = ' '.join(str(error).split()) or type(error).__name__
    return BadFileError(path, f'unreadable ({reason})', 'copy or export the file again')


def _check_sample(
    sample_id: str,
    image: RGBImage,
    instances: NDArray[np.integer],
    ignore: Mask | None,
    types: NDArray[np.integer] | None,
) -> None:
    if not sample_id or sample_id != Path(sample_id).name:
        raise UserError(f'id {sample_id!r} is no plain file name; use letters, digits, "_" and "-"')
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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + '\n'
    with whole_file(path) as file:
        file.write_text(text, encoding='utf-8')


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise BadFileError(path, f'holds a {type(content).__name__}', 'write a JSON object')
    return content


def _require_keys(meta: dict[str, Any], path: Path) -> None:
    missing = [key for key in META_KEYS if key not in meta]
    if missing:
        raise BadFileError(path, f'lacks {", ".join(missing)}', f'give all of {", ".join(META_KEYS)}')
