"""The one reader of image files: tissue images, label maps and masks, by what a file holds, not by its suffix.

PNG, TIFF (of OME, ImageJ, slides), JPEG, BMP and WebP; label maps also as NPY. Every image and every map is turned
upright by its EXIF or TIFF orientation, as viewers show it. Sizes are checked before anything is decoded.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from mmgfnuc.errors import UserError

from .arrays import CHECKED_BYTES, LARGEST_ID, MAGIC, open_array, whole_numbers
from .bad_file import BadFileError, is_utf8, require_file, unreadable
from .colours import DEEP_FIX, PixelError, RGBImage, to_rgb
from .limits import require_room
from .tiff import ORIENTATION, SIGNATURES, TiffPicture, opened_tiff
from .tiff_colours import is_lossy, read_colours, require_colours, shows_zero_as_one

LabelMap: TypeAlias = NDArray[np.int32]
Mask: TypeAlias = NDArray[np.bool_]
TypeMap: TypeAlias = NDArray[np.uint8]

# By which files of a folder are taken for images that are read here; slides of SVS are TIFF.
IMAGE_SUFFIXES = ('.png', '.tif', '.tiff', '.jpg', '.jpeg', '.bmp', '.webp', '.svs')
PNG = b'\x89PNG\r\n\x1a\n'
# Bit depth and kind of colour in the header of a PNG.
RGB_8, GREY_8, GREY_16 = bytes((8, 2)), bytes((8, 0)), bytes((16, 0))
# Chunks: orientation; pixels; the end; all that change how the pixels are shown (besides: transparency, animation).
TURNED, DATA, END, SHOWN = b'eXIf', b'IDAT', b'IEND', (b'eXIf', b'tRNS', b'acTL')
# By these classes and not by `Image.open`, which has a limit of its own, and formats that run programs.
FORMATS = (
    (PngImagePlugin.PngImageFile, (PNG,)),
    (JpegImagePlugin.jpeg_factory, (b'\xff\xd8\xff',)),
    (BmpImagePlugin.BmpImageFile, (b'BM',)),
    (WebPImagePlugin.WebPImageFile, (b'RIFF',)),
)
MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX')
# Bytes that are taken for a pixel, as measured: by OpenCV, by Pillow, and to lay it on white.
OPENCV_BYTES, PILLOW_BYTES, ALPHA_BYTES = 7, 15, 8
NO_COLOURS = 'give one integer per pixel, no colours'


def read_image(path: str | Path) -> RGBImage:
    """Read a tissue image as RGB: upright, transparency laid on white, grey repeated over the three channels.

    The largest image of a TIFF file is read; its pages are joined where its metadata say that they are the channels.

    Shape:
        - returns: (H, W, 3), uint8.

    Raises:
        BadFileError: The file is missing, damaged, above the limit of `limits` or too large for the memory, a stack of
            pages, or has more than 8 bits per channel and states no range, or has colours that are not read, such as
            CMYK.

    """
    path = Path(path)
    with _reported(path), path.open('rb', buffering=0) as file:
        start = file.read(32)
        pixels = _read_plain_png(path, file, start, RGB_8)
        if pixels is not None and pixels.shape[2:] == (3,):
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
        if start.startswith(SIGNATURES):
            with opened_tiff(path) as tiff:
                require_colours(tiff)
                _require_room(tiff, 3)
                return _upright(read_colours(tiff), tiff.orientation)
        picture = _opened(path, file, start)
        return _upright(picture_to_rgb(picture), _orientation(picture))


def picture_to_rgb(picture: Image.Image) -> RGBImage:
    """Turn an image of Pillow into RGB as `read_image` does, but for its orientation: rows and columns stay.

    Shape:
        - returns: (H, W, 3), uint8.

    Raises:
        PixelError: It has more than 8 bits per channel, colours that are not read, such as CMYK, or several frames.
        OSError: Pillow cannot decode its file.
    """
    _require_colours(picture)
    return to_rgb(np.array(picture.convert('RGBA' if picture.has_transparency_data else 'RGB')))


def check_image(path: str | Path) -> tuple[int, int]:
    """Height and width in pixels of an image that `read_image` can read.

    A PNG is checked by the checksum of each of its chunks, which is far faster than decoding it.

    Raises:
        BadFileError: As `read_image`.
    """
    path = Path(path)
    with _reported(path), path.open('rb', buffering=0) as file:
        start = file.read(32)
        if not start.startswith(PNG) or TURNED in _chunks(file):
            return read_image(path).shape[:2]
        picture = _opened(path, file, start)
        _require_colours(picture)
        width, height = picture.size
    return height, width


def read_label_map(path: str | Path) -> LabelMap:
    """Read an instance label map from PNG (8 or 16 bit), TIFF or NPY (whole numbers of any type); 0 is background.

    Shape:
        - returns: (H, W), int32.

    Raises:
        BadFileError: As `read_image`; also if it has channels, comes from a format that changes values, or holds
            values that are not ids (fractions, negatives, above 2**31 - 1).

    """
    path = Path(path)
    with _reported(path), path.open('rb', buffering=0) as file:
        start = file.read(32)
        labels = _read_plain_png(path, file, start, GREY_8, GREY_16)
        if labels is None:
            labels = _read_values(path, file, start)
        if labels.ndim != 2:
            raise PixelError(f'shape {labels.shape} is not (H, W)', NO_COLOURS)
        if labels.dtype == np.uint16:
            return labels.astype(np.int32)
        return whole_numbers(labels, LARGEST_ID, path, 'the map')


def read_ignore(path: str | Path) -> Mask:
    """Read an ambiguous-area mask: True where the file is not zero, in any channel except transparency.

    Shape:
        - returns: (H, W), bool.

    Raises:
        BadFileError: The file is missing or unreadable.

    """
    path = Path(path)
    with _reported(path), path.open('rb', buffering=0) as file:
        start = file.read(32)
        values = _read_plain_png(path, file, start, GREY_8, GREY_16)
        if values is None and start.startswith(SIGNATURES):
            values = _read_values(path, file, start)
        elif values is None:
            picture = _opened(path, file, start)
            # Deep grey is taken as it is: a conversion to 8 bits may lose small values.
            values = np.array(picture if picture.mode.startswith('I') else picture.convert('RGB'))
            values = _upright(values, _orientation(picture))
        return values > 0 if values.ndim == 2 else np.asarray(values.any(axis=2))


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


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    require_file(path)
    try:
        yield
    except PixelError as error:
        raise BadFileError(path, error.what, error.fix) from error
    except UserError:
        raise
    # A damaged file fails in struct, zlib, by an index or a key, or as Pillow and OpenCV say it.
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, 'code', None) == cv2.Error.StsNoMem:
            what, fix = 'there is too little memory to read it', 'close other programs, or cut it into tiles'
            raise BadFileError(path, what, fix) from error
        raise unreadable(path, error) from error


def _read_plain_png(path: Path, file: FileIO, start: bytes, *kinds: bytes) -> NDArray | None:
    """Decode a PNG of one of the kinds that datasets are made of, in the fastest way; None for any other.

    Shape:
        - returns: (H, W) uint8 or uint16, or (H, W, 3) BGR uint8.
    """
    if not start.startswith(PNG) or start[24:26] not in kinds:
        return None
    width, height = struct.unpack('>II', start[16:24])
    require_room(path, height, width, OPENCV_BYTES)
    chunks = _chunks(file)
    # Pillow reads what is shown otherwise than stored, and says what is wrong with a damaged file.
    if not chunks.isdisjoint(SHOWN) or END not in chunks or not is_utf8(str(path)):
        return None
    # Of bytes in memory OpenCV does not check the sums.
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _chunks(png: FileIO) -> set[bytes]:
    """Names of the chunks of a PNG."""
    names: set[bytes] = set()
    place = len(PNG)
    while len(head := _at(png, place)) == 8:
        length, name = struct.unpack('>I4s', head)
        if name == DATA and DATA not in names:
            place += _leap(png, place, 12 + length)
        else:
            place += 12 + length
        names.add(name)
    return names


def _leap(png: FileIO, place: int, step: int) -> int:
    """Bytes from the first chunk of data, of `step` bytes, to one near the end: mostly all but the last are so large.

    Looking at each would take a tenth of the time of decoding.
    """
    steps = (png.seek(0, os.SEEK_END) - place) // step
    for number in (steps, steps - 1, steps - 2):
        if number > 0 and _at(png, place + number * step)[4:] == DATA:
            return number * step
    return step


def _at(file: FileIO, place: int) -> bytes:
    file.seek(place)
    return file.read(8)


def _read_values(path: Path, file: FileIO, start: bytes) -> NDArray:
    """Read values that are not colours, as they are stored; upright.

    Shape:
        - returns: (H, W), or (H, W, C) if the file has channels.
    """
    if start.startswith(MAGIC):
        array = open_array(path)
        if array.ndim == 2:
            require_room(path, array.shape[0], array.shape[1], CHECKED_BYTES)
        return array
    if start.startswith(SIGNATURES):
        with opened_tiff(path) as tiff:
            if is_lossy(tiff):
                raise PixelError('JPEG compression changes the ids', 'save it as PNG, or as TIFF with LZW or deflate')
            _require_room(tiff, 4)
            values = tiff.decode()
            return _upright(values == 0 if shows_zero_as_one(tiff) else values, tiff.orientation)
    picture = _opened(path, file, start)
    if picture.format in ('JPEG', 'MPO'):
        raise PixelError('JPEG changes the ids', 'save it as PNG or TIFF')
    return _upright(np.array(picture), _orientation(picture))


def _opened(path: Path, file: FileIO, start: bytes) -> Image.Image:
    """Open what Pillow reads, once it is known to fit into the memory, and to be whole if it is a PNG."""
    picture = _parsed(file, start)
    width, height = picture.size
    alpha = ALPHA_BYTES if picture.has_transparency_data else 0
    require_room(path, height, width, PILLOW_BYTES + alpha)
    if picture.format != 'PNG':
        return picture
    # When it decodes, Pillow does not check the sums of the pixels.
    picture.verify()
    return _parsed(file, start)


def _parsed(file: FileIO, start: bytes) -> Image.Image:
    file.seek(0)
    for factory, marks in FORMATS:
        if start.startswith(marks):
            return factory(file)
    raise ValueError('it is not a PNG, TIFF, JPEG, BMP or WebP')


def _require_colours(picture: Image.Image) -> None:
    # Pillow would clip deeper grey to 255, and keep only the high byte of deeper colours, without a word: those it
    # reads with a decoder for 16 bits, under a mode of 8.
    decoders = [str(entry[3]) for entry in getattr(picture, 'tile', ())]
    if picture.mode.startswith(('I', 'F')) or any(';16' in decoder for decoder in decoders):
        raise PixelError(f'pixels of type {picture.mode!r} with more than 8 bits', DEEP_FIX)
    if picture.mode not in MODES:
        raise PixelError(f'colours of kind {picture.mode}', 'save it as 8-bit RGB')
    # A phone adds small pictures to its JPEG, which viewers do not show.
    frames = getattr(picture, 'n_frames', 1)
    if picture.format != 'MPO' and frames > 1:
        raise PixelError(f'an animation of {frames} images', 'save the one that is meant')


def _require_room(tiff: TiffPicture, result: int) -> None:
    """Refuse what does not fit: decoded, as 32-bit numbers if it has more than 8 bits, and as it is returned."""
    if tiff.page.dtype is None:
        raise PixelError('pixels of a type that is not known', 'save it as 8-bit RGB')
    depth = tiff.page.dtype.itemsize
    height, width = tiff.size
    alpha = ALPHA_BYTES if tiff.channels in (2, 4) else 0
    require_room(tiff.path, height, width, tiff.channels * (depth + (5 if depth > 1 else 0)) + result + alpha)


def _orientation(picture: Image.Image) -> int:
    return picture.getexif().get(ORIENTATION, 1)


def _upright(pixels: NDArray, orientation: int) -> NDArray:
    """Turn and mirror as the orientation of EXIF and TIFF says, 1 to 8; other numbers mean nothing.

    Shape:
        (H, W, ...) -> (H, W, ...), or (W, H, ...) from 5 on
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
