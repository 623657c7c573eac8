"""Micrometres per pixel, as image files state them: SVS, OME-TIFF, ImageJ and the resolution tags of TIFF.

Formats: OME-TIFF 2016-06, TIFF 6.0, ImageJ, the descriptions that Aperio writes.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmgfnuc.errors import UserError

from .bad_file import BadFileError, require_file
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

    Resolution tags that no other metadata explain count only if they give 0.05 to 5: others, such as 72 per inch,
    describe a print.

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
    if start not in SIGNATURES:
        return None
    with opened_tiff(path) as picture:
        stated = _of_svs(picture) or _of_ome(picture) or _of_imagej(picture) or _of_tags(picture)
    if stated is None:
        return None
    if max(stated) > min(stated) * (1 + SQUARE):
        what = f'pixels of {stated[0]:g} x {stated[1]:g} micrometres are not square'
        raise BadFileError(path, what, 'resample the image to square ones')
    return check_mpp(stated[0], str(path))


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
    return None if scale is None else _sides(picture, scale)


def _of_tags(picture: TiffPicture) -> Sequence[float] | None:
    scale = TAG_UNITS.get(picture.page.tags.valueof('ResolutionUnit', 2))
    sides = None if scale is None else _sides(picture, scale)
    return sides if sides and all(SMALLEST <= side <= LARGEST for side in sides) else None


def _sides(picture: TiffPicture, scale: float) -> Sequence[float] | None:
    """Sides of a pixel, from the pixels in a unit of `scale` micrometres."""
    ratios = [picture.page.tags.valueof(name) for name in ('XResolution', 'YResolution')]
    if any(ratio is None or 0 in ratio for ratio in ratios):
        return None
    return [scale * below / above for above, below in ratios]


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
