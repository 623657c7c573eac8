"""How the files of an image are written, and what a table can show."""

import zlib
from contextlib import suppress
from pathlib import Path
from unicodedata import category

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mmgfnuc.datasets.canonical import LARGEST_PNG_ID
from mmgfnuc.files import whole_file

from .measurements import MEASURES

# Of the records of a run: a folder that has it belongs to `mmgfnuc predict`.
FOLDER = '.records'
NUCLEI_HEADER = ('image', 'nucleus', 'type', *MEASURES)
FILES = {'labels': ('.png', '.tif'), 'masks': ('.png',), 'overlays': ('.png',), 'geojson': ('.geojson',)}
# Folder of the tables of single images, see `Nuclei.save`.
TABLES = 'nuclei'
# Control characters, halves of a pair (which stand for bytes that are not UTF-8), ends of lines and paragraphs.
UNSHOWN = ('Cc', 'Cs', 'Zl', 'Zp')


def write_png(path: Path, pixels: NDArray[np.uint8 | np.uint16]) -> None:
    """Write a grey (H, W), of 8 or 16 bits, or RGB (H, W, 3) picture."""
    with whole_file(path) as file:
        # Faster than zlib's default, and of tissue and label maps no larger.
        Image.fromarray(pixels).save(file, format='PNG', compress_type=zlib.Z_RLE)


def write_mask(path: Path, semantic: NDArray[np.uint8], num_classes: int = 2) -> None:
    """Write a semantic map as grey levels: background 0, the last class 255, others evenly between.

    Shape:
        semantic (H, W), classes 0 to num_classes - 1
    """
    write_png(path, (semantic.astype(np.uint16) * 255 // (num_classes - 1)).astype(np.uint8))


def write_label_map(folder: Path, name: str, labels: NDArray[np.integer]) -> None:
    """Write <name>.png (16 bits), or <name>.tif (int32) above id 65,535, as the canonical form of a dataset does.

    The other of the two, left by an earlier run, is removed.

    Shape:
        labels (H, W), 0 = background
    """
    png, tiff = folder / f'{name}.png', folder / f'{name}.tif'
    if labels.max(initial=0) > LARGEST_PNG_ID:
        with whole_file(tiff) as file:
            tifffile.imwrite(file, labels.astype(np.int32), compression='zlib')
        png.unlink(missing_ok=True)
    else:
        write_png(png, labels.astype(np.uint16))
        tiff.unlink(missing_ok=True)


def printable(text: str) -> str:
    r"""Escape what no table, page or terminal can show: line ends, control characters, bytes that are not UTF-8.

    Examples:
        >>> print(printable('a\nb\udcff'))
        a\nb\udcff

    """
    return ''.join(ascii(letter)[1:-1] if category(letter) in UNSHOWN else letter for letter in text)


def discard(out: Path, stem: str) -> None:
    """Remove the files of one image; a link or a folder in the place of one is not ours."""
    for folder, suffixes in (*FILES.items(), (TABLES, ('.csv',))):
        for path in (out / folder / f'{stem}{suffix}' for suffix in suffixes):
            # A name that is too long for a file names none.
            with suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    path.unlink()
