"""The image of a TIFF file as RGB of 8 bits: by its tags, and the range that its metadata state.

Tags: TIFF 6.0; OME-XML 2016-06; ImageJ.
"""

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from .colours import DEEP_FIX, PixelError, Range, RGBImage, to_rgb
from .tiff import TiffPicture
from .tiff_channels import channel_order

RGB_FIX = 'save it as 8-bit RGB'
JPEG = (COMPRESSION.JPEG, COMPRESSION.JPEG_LOSSY, COMPRESSION.ALT_JPEG)
GREY = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK)
# As tifffile decodes them; JPEG gives RGB whatever the tag says.
READ = (*GREY, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE)
# Their colours are not what the tags say, so that one would have to guess.
NOT_READ = (COMPRESSION.OJPEG, COMPRESSION.APERIO_JP2000_YCBC)
ALPHA = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
# Smallest and largest value in the tags, for whole numbers and for others.
RANGE_TAGS = {'u': ('MinSampleValue', 'MaxSampleValue'), 'f': ('SMinSampleValue', 'SMaxSampleValue')}


def is_lossy(picture: TiffPicture) -> bool:
    """Whether the file holds values near to those that were saved, not the same."""
    return picture.page.compression in (*JPEG, COMPRESSION.OJPEG)


def shows_zero_as_one(picture: TiffPicture) -> bool:
    """Whether a map in black and white has its zeros where viewers show white: as faxes and Group 4 have it.

    Deeper values are numbers, however they are displayed. So are the bits of NumPy, which tifffile writes as they are.
    """
    page = picture.page
    of_numpy = str(page.software).startswith('tifffile')
    return page.bitspersample == 1 and page.photometric == PHOTOMETRIC.MINISWHITE and not of_numpy


def read_colours(picture: TiffPicture) -> RGBImage:
    """Decode an image that `require_colours` accepts; its orientation is as stored.

    Shape:
        - returns: (H, W, 3)

    Raises:
        PixelError: The meaning of its values is unknown.
    """
    page = picture.page
    pixels = picture.decode()
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        # Some writers fill 8 bits of 16.
        table = page.colormap if page.colormap.max() < 256 else page.colormap >> 8
        return to_rgb(table.astype(np.uint8).T[pixels])
    if picture.channels in (2, 4) and page.extrasamples[-1:] not in [(kind,) for kind in ALPHA]:
        pixels = _without_filler(pixels)
    limits = stated_range(picture, pixels)
    premultiplied = page.extrasamples[-1:] == (EXTRASAMPLE.ASSOCALPHA,)
    colours = to_rgb(pixels, limits, premultiplied=premultiplied)
    order = channel_order(picture)
    if order != sorted(order):
        colours = np.ascontiguousarray(colours[..., order])
    return 255 - colours if page.photometric == PHOTOMETRIC.MINISWHITE else colours


def require_colours(picture: TiffPicture) -> None:
    """Refuse colours that are not read, before anything is decoded.

    Raises:
        PixelError: Names them.
    """
    page = picture.page
    decoded_to_rgb = page.photometric == PHOTOMETRIC.YCBCR and page.compression in JPEG
    if page.photometric not in READ and not decoded_to_rgb:
        raise PixelError(f'colours of kind {_name(page.photometric)}', RGB_FIX)
    if page.compression in NOT_READ:
        raise PixelError(f'compression {_name(page.compression)}', RGB_FIX)
    if picture.channels not in (1, 2, 3, 4) or (picture.channels in (2, 4) and 'S' not in picture.axes):
        raise PixelError(f'{picture.channels} channels are not those of a stained image', RGB_FIX)
    channel_order(picture)
    if page.dtype is None or page.dtype.kind not in 'buf' or page.dtype.itemsize > 4:
        raise PixelError(f'pixels of type {page.dtype}', DEEP_FIX)


def stated_range(picture: TiffPicture, pixels: NDArray) -> Range | None:
    """What the file says is black and what is white; None for 8 bits and where it does not state them.

    Shape:
        - pixels: (H, W) or (H, W, C)
    """
    bits = picture.page.bitspersample
    if pixels.dtype == bool or bits == 8:
        return None
    ends = (0.0, 2.0**bits - 1) if bits < 8 * pixels.dtype.itemsize else _of_metadata(picture, pixels.dtype.kind)
    if ends is None:
        return None
    black, white = np.asarray(ends[0], float), np.asarray(ends[1], float)
    if not (np.isfinite(black) & np.isfinite(white) & (black < white)).all():
        return None
    return black, white


def _of_metadata(picture: TiffPicture, kind: str) -> tuple | None:
    ome = picture.ome_pixels
    significant = ome.get('SignificantBits', '') if ome is not None else ''
    if significant.isascii() and significant.isdigit() and kind == 'u':
        return 0.0, 2.0 ** min(int(significant), 32) - 1
    shown = picture.file.imagej_metadata or {}
    ranges = shown.get('Ranges', ())
    if len(ranges) == 2 * picture.channels:
        return ranges[::2], ranges[1::2]
    if 'min' in shown and 'max' in shown:
        return shown['min'], shown['max']
    low, high = RANGE_TAGS[kind]
    largest = picture.page.tags.valueof(high)
    return None if largest is None else (picture.page.tags.valueof(low, 0), largest)


def _without_filler(pixels: NDArray) -> NDArray:
    """Drop a last channel that the file does not explain, if it says nothing."""
    last = pixels[..., -1]
    if last.min() != last.max():
        raise PixelError('a last channel of which the file does not say whether it is transparency', RGB_FIX)
    return pixels[..., :-1]


def _name(value: object) -> str:
    return getattr(value, 'name', str(value))
