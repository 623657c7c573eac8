"""Which image a TIFF file holds, among its pages, overviews and channels; opened, not yet decoded.

tifffile gives the meaning of the axes, from the metadata of OME, ImageJ, slide scanners and its own.
"""

import logging
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree.ElementTree import Element

from defusedxml import ElementTree
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage, TiffPageSeries

from mmgfnuc.errors import UserError

from .bad_file import BadFileError, unreadable

# Byte order, then 42, or 43 in files that may exceed 4 GB.
SIGNATURES = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
# The name of a slide's own image beside those of its label, its overview and the whole glass.
BASELINE = 'Baseline'
ONE_PAGE = 'save the one page that is meant, or the image as 8-bit RGB'
# Aspects that differ by more than this are not those of an image and its overview.
SAME_ASPECT = 0.05
ORIENTATION = 274


@dataclass(frozen=True)
class TiffPicture:
    """The image of a TIFF file.

    Attributes:
        path: of the file.
        file: opened.
        series: its pages.
        axes: of the pixels, as stored: Y and X, and S (samples of a pixel) or C (channels, a page each) if several.
        shape: length of each axis.
    """

    path: Path
    file: TiffFile
    series: TiffPageSeries
    axes: str
    shape: tuple[int, ...]

    @cached_property
    def page(self) -> TiffPage:
        """The first page, which has the tags."""
        return self.series.keyframe

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, as stored."""
        return self.shape[self.axes.index('Y')], self.shape[self.axes.index('X')]

    @property
    def channels(self) -> int:
        """Numbers of a pixel."""
        return math.prod(self.shape) // max(math.prod(self.size), 1)

    @property
    def orientation(self) -> int:
        """As in the tag, 1 to 8; 1 is upright."""
        value = self.page.tags.valueof(ORIENTATION, 1)
        return int(value) if value in range(1, 9) else 1

    @cached_property
    def ome_pixels(self) -> Element | None:
        """The OME metadata of the pixels of the image; None where the file has none."""
        if not self.file.ome_metadata:
            return None
        height, width = map(str, self.size)
        found = ElementTree.fromstring(self.file.ome_metadata).findall('.//{*}Pixels')
        return next((pixels for pixels in found if (pixels.get('SizeY'), pixels.get('SizeX')) == (height, width)), None)

    def decode(self) -> NDArray:
        """Read the pixels.

        Shape:
            - returns: (H, W), or (H, W, C) where a pixel has several numbers.
        """
        self._require_whole()
        pixels = self.series.asarray().reshape(self.shape)
        order = sorted(range(len(self.axes)), key=lambda i: 'YXSC'.index(self.axes[i]))
        return pixels.transpose(order)

    def _require_whole(self) -> None:
        # tifffile fills in zeros for what is missing.
        end = self.file.filehandle.size
        for page in self.series:
            if page is None:
                raise BadFileError(self.path, 'a page of the image is missing, or in another file', ONE_PAGE)
            places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
            missing = sum(not 0 < start < start + length <= end for start, length in places)
            if missing:
                what = f'unreadable ({missing} of its {len(places)} strips or tiles are missing)'
                raise BadFileError(self.path, what, 'copy or export the file again')


@contextmanager
def opened_tiff(path: Path) -> Iterator[TiffPicture]:
    """Open the image of a TIFF file: the largest, where overviews, a pyramid or a slide's label lie beside it.

    The file is known not to be a named pipe: its first bytes have been read.

    Raises:
        BadFileError: The file is damaged, or holds a stack: pages of equal size that are not the colours of one image.
            Also where the block cannot decode it.
    """
    try:
        # Other files that OME metadata name are not opened.
        with _without_log(), TiffFile(path, _multifile=False) as file:
            yield _choose(path, file)
    except (UserError, MemoryError):
        raise
    # A damaged TIFF fails anywhere in its tags or strips: struct, zlib, index and value errors alike.
    except Exception as error:
        raise unreadable(path, error) from error


def _choose(path: Path, file: TiffFile) -> TiffPicture:
    series = [level for entry in file.series for level in entry.levels if {'Y', 'X'} <= set(level.axes)]
    if not series:
        raise ValueError('it holds no image')
    series = [entry for entry in series if entry.name == BASELINE] or series
    pictures = sorted((_squeezed(path, file, entry) for entry in series), key=_area, reverse=True)
    largest, *others = pictures
    pages = math.prod(length for axis, length in zip(largest.axes, largest.shape, strict=True) if axis not in 'YXSC')
    pages *= 1 + sum(_area(other) == _area(largest) for other in others)
    if pages > 1:
        raise BadFileError(path, f'a stack of {pages} pages of equal size, which are not the colours of one', ONE_PAGE)
    if largest.channels > 1 and len(largest.axes) != 3:
        raise BadFileError(path, f'axes {largest.axes} of lengths {largest.shape} are not one image', ONE_PAGE)
    strange = [f'{other.size[0]} x {other.size[1]}' for other in others if not _is_overview(other, largest)]
    if strange:
        size = f'{largest.size[0]} x {largest.size[1]}'
        warnings.warn(f'{path}: the image of {size} is taken, not those of {", ".join(strange)}', stacklevel=5)
    return largest


def _squeezed(path: Path, file: TiffFile, series: TiffPageSeries) -> TiffPicture:
    kept = [(a, int(n)) for a, n in zip(series.axes, series.shape, strict=True) if a in 'YX' or n != 1]
    return TiffPicture(path, file, series, ''.join(a for a, _ in kept), tuple(n for _, n in kept))


def _area(picture: TiffPicture) -> int:
    return math.prod(picture.size)


def _is_overview(other: TiffPicture, largest: TiffPicture) -> bool:
    """Whether it is a smaller picture of the same, within the rounding of its sides."""
    scales = [small / large for small, large in zip(other.size, largest.size, strict=True)]
    slack = SAME_ASPECT + 1 / max(min(other.size), 1)
    return other.page.is_reduced or abs(scales[0] / scales[1] - 1) <= slack


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep what tifffile logs in this thread from the screen; what matters of it is an error here."""
    _silent.here = True
    try:
        yield
    finally:
        _silent.here = False


_silent = threading.local()
logging.getLogger('tifffile').addFilter(lambda record: not getattr(_silent, 'here', False))
