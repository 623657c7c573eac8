"""What was done with each image of an output folder, and the two tables that are made of it.

Each image has a record, a file that is written whole and after all other files of the image: however a run ends, the
records say what is complete, and tables can be made of them again. A table that is written anew after each image costs
the square of their number; a record costs the same for the first image and for the last.

Source: code: own.
"""

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.files import whole_file, write_csv

from .measurements import MEASURES
from .writers import write_json

FOLDER = '.records'
NUCLEI, IMAGES = 'nuclei.csv', 'images.csv'
NUCLEI_HEADER = ('image', 'nucleus', 'type', *MEASURES)
IMAGES_HEADER = ('image', 'state', 'nuclei', 'mpp', 'reason', 'file')
# Of the time of a run that may go into writing tables.
TABLE_SHARE = 0.1


@dataclass(frozen=True)
class Record:
    """One image: its results, or the reason why it has none.

    Attributes:
        image: name in the tables.
        file: that was read.
        mpp: micrometres per pixel that were used, None where unknown.
        reason: of a failure; empty where the image is done.
        nuclei: lines of the table without the name of the image.
        columns: of the table that the lines belong to.
    """

    image: str
    file: str
    mpp: float | None
    reason: str = ''
    nuclei: list[list[Any]] = field(default_factory=list)
    columns: list[str] = field(default_factory=lambda: list(NUCLEI_HEADER))


class Records:
    """The records of an output folder.

    Args:
        out: output folder; made if missing.

    Attributes:
        sources: by name, the file that was read of each image that has a record.

    Raises:
        UserError: a record is damaged, or there is a table that is not made of records.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / FOLDER
        if (out / NUCLEI).exists() and not self.folder.is_dir():
            raise UserError(f'{out / NUCLEI} is not of this version; move it away, or name another output folder')
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sources = {}
        for path in self.folder.glob('*.json'):
            record = _read(path)
            if path != self._path(record.image):
                raise UserError(f'{path} holds the record of {record.image}, not its own; delete it')
            self.sources[record.image] = record.file

    def add(self, record: Record) -> None:
        """Write a record; call it after all other files of the image are written.

        Raises:
            UserError: see `whole_file`.
        """
        write_json(self._path(record.image), asdict(record))
        self.sources[record.image] = record.file

    def forget(self, images: Collection[str]) -> None:
        """Remove records; call it, and then `write_tables`, before other files of the images are replaced."""
        for image in images:
            if self.sources.pop(image, None) is not None:
                self._path(image).unlink()

    def write_tables(self) -> None:
        """Write nuclei.csv and images.csv of all records, sorted by image.

        Raises:
            UserError: see `whole_file`.
        """
        lines: list[list] = []
        images, nuclei = self.out / IMAGES, self.out / NUCLEI
        with whole_file(images) as unfinished_images, whole_file(nuclei) as unfinished_nuclei:
            write_csv(unfinished_nuclei, NUCLEI_HEADER, self._nuclei(lines))
            write_csv(unfinished_images, IMAGES_HEADER, lines)
            # Two files cannot be replaced at once, and no one shall find two that disagree.
            images.unlink(missing_ok=True)

    def _nuclei(self, lines: list[list]) -> Iterator[list]:
        """Give the lines of one table, and collect those of the other: a record is read once and not kept."""
        for image in sorted(self.sources):
            record = _read(self._path(image))
            state, mpp = 'failed' if record.reason else 'done', '' if record.mpp is None else record.mpp
            lines.append([image, state, len(record.nuclei), mpp, record.reason, record.file])
            yield from ([image, *nucleus] for nucleus in record.nuclei)

    def in_batches(self, images: Sequence[str]) -> Iterator[str]:
        """Give image by image, and keep records and tables true while their files are replaced.

        Between two batches the tables are written, without the images of the next batch. A batch is one image as long
        as tables take little of the time (TABLE_SHARE), more where they are long.
        """
        size, start = 1, 0
        while start < len(images):
            batch = images[start : start + size]
            self.forget(batch)
            begun = time.perf_counter()
            self.write_tables()
            written = time.perf_counter()
            yield from batch
            per_image = (time.perf_counter() - written) / size
            start += size
            size = max(1, min(2 * size, int((written - begun) / TABLE_SHARE / per_image)))

    def _path(self, image: str) -> Path:
        """Give the file of a record: any name, however long, has a digest that can name a file."""
        return self.folder / f'{hashlib.sha256(image.encode()).hexdigest()[:32]}.json'


def _read(path: Path) -> Record:
    try:
        record = Record(**json.loads(path.read_text(encoding='utf-8')))
        if record.columns != list(NUCLEI_HEADER):
            raise ValueError('other columns')
        if not all(len(nucleus) == len(NUCLEI_HEADER) - 1 for nucleus in record.nuclei):
            raise ValueError('lines of another length')
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f'{path} is damaged or of another version; name another --out, or delete {path.parent}'
        ) from error
    return record
