"""The files of an output folder: those of each image, its record, and the two tables that are made of the records.

Each image has a record, written whole and after all other files of the image: however a run ends, the records say what
is complete, and tables can be made of them again. A table that is written anew after each image costs the square of
their number; a record costs the same for the first image and for the last.
"""

import hashlib
import json
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from unicodedata import category

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mmgfnuc.datasets.canonical import LARGEST_PNG_ID
from mmgfnuc.errors import UserError
from mmgfnuc.files import whole_file, write_csv, write_json

from .measurements import MEASURES

FOLDER = '.records'
NUCLEI, IMAGES = 'nuclei.csv', 'images.csv'
NUCLEI_HEADER = ('image', 'nucleus', 'type', *MEASURES)
IMAGES_HEADER = ('image', 'state', 'nuclei', 'mpp', 'reason', 'file')
FILES = {'labels': ('.png', '.tif'), 'masks': ('.png',), 'overlays': ('.png',), 'geojson': ('.geojson',)}
# Folder of the tables of single images, see `Nuclei.save`.
TABLES = 'nuclei'
# Of the time of a run that may go into writing tables.
TABLE_SHARE = 0.1
# Control characters, halves of a pair (which stand for bytes that are not UTF-8), ends of lines and paragraphs.
UNSHOWN = ('Cc', 'Cs', 'Zl', 'Zp')


def write_png(path: Path, pixels: NDArray[np.uint8 | np.uint16]) -> None:
    """Write a grey (H, W), of 8 or 16 bits, or RGB (H, W, 3) picture."""
    with whole_file(path) as file:
        Image.fromarray(pixels).save(file, format='PNG')


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


@dataclass(frozen=True)
class Record:
    """One image: that it is done, or the reason why it is not.

    Attributes:
        image: name in the tables.
        file: that was read.
        nuclei: how many were found.
        mpp: micrometres per pixel that were used, None where unknown.
        reason: of a failure; empty where the image is done.
    """

    image: str
    file: str
    nuclei: int
    mpp: float | None
    reason: str = ''


class Records:
    """The records of an output folder: for each image a JSON file, and its lines of nuclei.csv.

    Args:
        out: output folder; made if missing.

    Attributes:
        out: the folder.
        all: the records by image.

    Raises:
        UserError: a record is damaged, or there is a table that is not made of records.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / FOLDER
        if (out / NUCLEI).exists() and not self.folder.is_dir():
            raise UserError(f'{out / NUCLEI} is not of this version; move it away, or name another output folder')
        self.folder.mkdir(parents=True, exist_ok=True)
        self.all = {record.image: record for record in map(_read, self.folder.glob('*.json'))}

    def add(self, record: Record, nuclei: Sequence[Sequence[object]] = ()) -> None:
        """Write a record, and its lines of nuclei.csv; call it after all other files of the image are written.

        Raises:
            UserError: see `whole_file`.
        """
        path = self._path(record.image)
        write_csv(path.with_suffix('.csv'), NUCLEI_HEADER, nuclei)
        write_json(path, asdict(record), indent=None)
        self.all[record.image] = record

    def forget(self, image: str) -> None:
        """Remove a record if there is one; call it before other files of the image are replaced."""
        self.all.pop(image, None)
        self._path(image).unlink(missing_ok=True)

    def write_tables(self) -> None:
        """Write nuclei.csv and images.csv of all records, sorted by image.

        Raises:
            UserError: see `whole_file`.
        """
        records = [self.all[image] for image in sorted(self.all)]
        states = [
            # A failed image is not one without nuclei.
            [each.image, 'failed', None, each.mpp, each.reason, each.file]
            if each.reason
            else [each.image, 'done', each.nuclei, each.mpp, '', each.file]
            for each in records
        ]
        images, nuclei = self.out / IMAGES, self.out / NUCLEI
        with whole_file(images) as unfinished_images, whole_file(nuclei) as unfinished_nuclei:
            write_csv(unfinished_images, IMAGES_HEADER, states)
            write_csv(unfinished_nuclei, NUCLEI_HEADER, ())
            header = unfinished_nuclei.read_bytes()
            with unfinished_nuclei.open('ab') as table:
                table.writelines(self._lines(record, header) for record in records)
            # Two files cannot be replaced at once, and no one shall find two that disagree.
            images.unlink(missing_ok=True)

    def _lines(self, record: Record, header: bytes) -> bytes:
        """Give the lines of a table as they were written; to make them anew would take many times as long."""
        path = self._path(record.image).with_suffix('.csv')
        content = path.read_bytes() if path.is_file() else b''
        if not content.startswith(header):
            raise UserError(
                f'{path} is damaged or has other columns; delete {path.with_suffix(".*")} and predict again, or name '
                'another --out'
            )
        return content[len(header) :]

    def in_batches(self, images: Sequence[str]) -> Generator[str, None, None]:
        """Give image by image, and keep records and tables true while their files are replaced.

        Between two batches the tables are written, without the images of the next batch. A batch is one image as long
        as tables take little of the time (TABLE_SHARE), and grows where they do not. Close the iterator where a run
        ends early: images that it did not come to keep their records.
        """
        size, start = 1, 0
        while start < len(images):
            batch = images[start : start + size]
            waiting = {image: self.all.pop(image) for image in batch if image in self.all}
            begun = time.perf_counter()
            self.write_tables()
            written = time.perf_counter()
            try:
                for image in batch:
                    waiting.pop(image, None)
                    self.forget(image)
                    yield image
            finally:
                self.all.update(waiting)
            start += size
            long = written - begun > TABLE_SHARE * (time.perf_counter() - written)
            size = 2 * size if long else max(1, size // 2)

    def _path(self, image: str) -> Path:
        return self.folder / _file_name(image)


def _file_name(image: str) -> str:
    """Name the record of an image: any name, however long, has a digest that can name a file."""
    return f'{hashlib.sha256(image.encode()).hexdigest()[:32]}.json'


def _read(path: Path) -> Record:
    try:
        record = Record(**json.loads(path.read_text(encoding='utf-8')))
        if path.name != _file_name(record.image):
            raise ValueError('of another image')
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f'{path} is damaged or of another version; delete it and predict its image again') from error
    return record
