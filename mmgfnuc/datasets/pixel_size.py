"""Micrometres per pixel, as image files state them: SVS, OME-TIFF, ImageJ, and the resolution of TIFF, PNG and JPEG.

Formats: OME-TIFF 2016-06, TIFF 6.0, ImageJ, the descriptions that Aperio writes, PNG (pHYs), JFIF, EXIF.
"""

import math
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import JpegImagePlugin

from mmgfnuc.errors import UserError

from .bad_file import BadFileError, require_file, unreadable
from .tiff import SIGNATURES, TiffPicture, opened_tiff

SMALLEST, LARGEST = 0.05, 5.0
NUMBERS = (int, float, np.integer, np.floating)
# Both sides of a square pixel, as rounded by those who write them.
SQUARE = 0.02
SVS_MPP = re.compile(r'\bMPP\s*=\s*([0-9.eE+-]+)')
# Micrometres in a unit. ImageJ writes the micro sign in several ways, or spells it out.
UNITS = {
    'nm': 1e-3,
    'um': 1.0,
    'micron': 1.0,
    'microns': 1.0,
    'micrometer': 1.0,
    'micrometre': 1.0,
    'mm': 1e3,
    'cm': 1e4,
    'm': 1e6,
    'in': 25400.0,
    'inch': 25400.0,
}
MICRO = ('\\u00b5', '\u00b5', '\u03bc')
# ResolutionUnit of TIFF.
TAG_UNITS = {2: 25400.0, 3: 10000.0}
PNG, JPEG = b'\x89PNG', b'\xff\xd8\xff'
METRE = 1  # the one unit that pHYs of a PNG has


def check_mpp(mpp: float, where: str) -> float:
    """Return micrometres per pixel if a microscope can have them.

    Args:
        mpp: to check.
        where: they come from, such as `--mpp`.

    Raises:
        UserError: They are outside 0.05 to 5, or not a number.
    """
    if not is_mpp(mpp):
        shown = f'{mpp:g}' if isinstance(mpp, float | np.floating) else repr(mpp)
        fix = '0.25 is usual for 40x, 0.5 for 20x; correct it'
        raise UserError(f'{where}: {shown} micrometres per pixel are not within {SMALLEST} to {LARGEST:g}; {fix}')
    return mpp


def is_mpp(value: object) -> bool:
    """Whether a value is micrometres per pixel as a microscope gives them: a number from 0.05 to 5."""
    # Not turned into a float: an integer of JSON may be too large for one.
    return isinstance(value, NUMBERS) and not isinstance(value, bool) and bool(SMALLEST <= value <= LARGEST)


def read_mpp(path: str | Path) -> float | None:
    """Read micrometres per pixel from the metadata of an image file, without decoding it.

    A resolution that no other metadata explain counts only if it gives 0.05 to 5: others, such as 72 per inch, describe
    a print.

    Returns:
        None where the file does not state it.

    Raises:
        UserError: The file is missing or damaged, its pixels are not square, or have no size that a microscope gives.
    """
    path = Path(path)
    require_file(path)
    try:
        with path.open('rb') as file:
            start = file.read(4)
    except OSError as error:
        raise BadFileError(path, f'unreadable ({error.strerror})', 'check its permissions') from error
    if start in SIGNATURES:
        stated = _of_tiff(path)
    elif start == PNG:
        stated = _plausible(_of_png(path))
    else:
        stated = _plausible(_of_jpeg(path)) if start.startswith(JPEG) else None
    if stated is None:
        return None
    if max(stated) > min(stated) * (1 + SQUARE):
        what = f'pixels of {stated[0]:g} x {stated[1]:g} micrometres are not square'
        raise BadFileError(path, what, 'resample the image to square ones')
    return check_mpp(stated[0], str(path))


def _of_tiff(path: Path) -> Sequence[float] | None:
    with opened_tiff(path) as picture:
        return _of_svs(picture) or _of_ome(picture) or _of_imagej(picture) or _of_tags(picture)


def _of_png(path: Path) -> Sequence[float] | None:
    with path.open('rb') as file:
        file.seek(8)
        # It stands before the pixels. A file that ends early is told by the one that reads those.
        while len(head := file.read(8)) == 8 and (name := head[4:]) != b'IDAT':
            content = file.read(9) if name == b'pHYs' else b''
            if len(content) == 9:
                *ratios, unit = struct.unpack('>IIB', content)
                return _sides([(ratio, 1) for ratio in ratios], UNITS['m']) if unit == METRE else None
            file.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
    return None


def _of_jpeg(path: Path) -> Sequence[float] | None:
    try:
        with JpegImagePlugin.JpegImageFile(path) as picture:
            ratios = picture.info.get('dpi', (0, 0))
    # A damaged header fails in struct, by an index or a key, or as Pillow says it.
    except Exception as error:
        raise unreadable(path, error) from error
    return _sides([(ratio, 1) for ratio in ratios], UNITS['inch'])


def _of_svs(picture: TiffPicture) -> Sequence[float] | None:
    description = picture.file.pages.first.description
    found = SVS_MPP.search(description) if description.startswith('Aperio') else None
    side = _number(found[1]) if found else None
    return None if side is None else (side, side)


def _of_ome(picture: TiffPicture) -> Sequence[float] | None:
    pixels = picture.ome_pixels
    if pixels is None:
        return None
    lengths = [(pixels.get(f'PhysicalSize{axis}', ''), pixels.get(f'PhysicalSize{axis}Unit', 'um')) for axis in 'XY']
    sides = [side for side in (_length(*length) for length in lengths) if side is not None]
    return sides if len(sides) == 2 else None


def _of_imagej(picture: TiffPicture) -> Sequence[float] | None:
    unit = (picture.file.imagej_metadata or {}).get('unit')
    scale = UNITS.get(_plain(str(unit)))
    return None if scale is None else _of_resolution(picture, scale)


def _of_tags(picture: TiffPicture) -> Sequence[float] | None:
    scale = TAG_UNITS.get(picture.page.tags.valueof('ResolutionUnit', 2))
    return None if scale is None else _plausible(_of_resolution(picture, scale))


def _plausible(sides: Sequence[float] | None) -> Sequence[float] | None:
    return sides if sides and all(SMALLEST <= side <= LARGEST for side in sides) else None


def _of_resolution(picture: TiffPicture, scale: float) -> Sequence[float] | None:
    """Sides of a pixel of a TIFF, from its pixels in a unit of `scale` micrometres."""
    ratios = [picture.page.tags.valueof(name) for name in ('XResolution', 'YResolution')]
    return None if None in ratios else _sides(ratios, scale)


def _sides(ratios: Sequence[tuple[float, float]], scale: float) -> Sequence[float] | None:
    """Sides of a pixel, from fractions: the pixels in a unit of `scale` micrometres."""
    return None if any(0 in ratio for ratio in ratios) else [scale * below / above for above, below in ratios]


def _length(text: str, unit: str) -> float | None:
    """Micrometres of a length; None where it has none, or no unit of length (OME knows "pixel")."""
    number, scale = _number(text), UNITS.get(_plain(unit))
    return None if number is None or scale is None else number * scale


def _plain(unit: str) -> str:
    unit = unit.strip().lower()
    for sign in MICRO:
        unit = unit.replace(sign, 'u')
    return unit


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
