"""What an output folder holds: a record of each image, the two tables that are made of them, and what they come from.

Each image has a record, written whole and after all other files of the image: however a run ends, the records say what
is complete, and the next run continues there. The tables are made of the records. A table that is written anew after
each image costs the square of their number; a record costs the same for the first image and for the last.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.files import read_json, whole_file, write_csv, write_json

from .provenance import NAME, differences
from .results import FOLDER, NUCLEI_HEADER, discard, printable

NUCLEI, IMAGES, PREDICTION = 'nuclei.csv', 'images.csv', 'prediction.json'
IMAGES_HEADER = (
    *('image', 'state', 'nuclei', 'per_mm2', 'median_area_px', 'median_area_um2', 'tissue_share', 'seconds'),
    *('mpp', 'mpp_from', 'warnings', 'reason', 'file'),
)
# Of the time of a run that may go into writing tables.
TABLE_SHARE = 0.1


@dataclass(frozen=True)
class Record:
    """One image: that it is done, or the reason why it is not.

    Attributes:
        image: name in the tables.
        file: that was read.
        sha256: of the file; empty where it could not be read.
        reason: of a failure; empty where the image is done.
        nuclei: how many were found; None in an image that failed, as all that follows may be.
        per_mm2: nuclei in a square millimetre of the image, where the size of a pixel is known.
        median_area_px: of a nucleus, in pixels; None where there is no nucleus.
        median_area_um2: the same in square micrometres, where the size of a pixel is known.
        tissue_share: see `tissue_share`.
        seconds: that reading, predicting and writing took.
        mpp: micrometres per pixel that were used, None where unknown.
        mpp_from: where they come from.
        warnings: what a reader must know of the prediction, a line each.
    """

    image: str
    file: str
    sha256: str
    reason: str = ''
    nuclei: int | None = None
    per_mm2: float | None = None
    median_area_px: float | None = None
    median_area_um2: float | None = None
    tissue_share: float | None = None
    seconds: float | None = None
    mpp: float | None = None
    mpp_from: str = ''
    warnings: Sequence[str] = ()

    @property
    def done(self) -> bool:
        """Whether its files are complete."""
        return not self.reason

    def begun(self) -> 'Record':
        """Give the record of the image while its files are being written; it stays if the run ends there."""
        return Record(self.image, self.file, self.sha256, 'not finished: the run ended while it was in work')

    def line(self) -> list[Any]:
        """Give its line of images.csv."""
        state, warnings = 'done' if self.done else 'failed', '; '.join(self.warnings)
        shown = asdict(self) | {'state': state, 'warnings': warnings, 'file': printable(self.file)}
        return [shown[column] for column in IMAGES_HEADER]


class Records:
    """The records of an output folder: for each image a JSON file, and its lines of nuclei.csv.

    Args:
        out: output folder; made if missing.
        prediction: what the results come from, see `Predictor.describe`; kept in the folder.
        overwrite: remove the results that the folder has, whatever they come from.

    Attributes:
        out: the folder.
        all: the records by image.

    Raises:
        UserError: the results that the folder has come from another model or other settings, a record is damaged, or
            there is a table that is not made of records.
    """

    def __init__(self, out: Path, prediction: Mapping[str, Any], overwrite: bool = False) -> None:
        self.out, self.folder = out, out / FOLDER
        if (out / NUCLEI).exists() and not self.folder.is_dir():
            raise UserError(f'{out / NUCLEI} is not of this version; move it away, or name another output folder')
        self.folder.mkdir(parents=True, exist_ok=True)
        self.all = {record.image: record for record in map(_read, self.folder.glob('*.json'))}
        if overwrite:
            self.remove(list(self.all))
        elif self.all:
            self._require_same(prediction)
        write_json(out / PREDICTION, prediction)
        self.write_tables()

    def _require_same(self, prediction: Mapping[str, Any]) -> None:
        fix = 'name another --out, or start anew with --overwrite'
        before = read_json(self.out / PREDICTION, fix, **{NAME: str})
        changed = differences(before, prediction)
        if changed:
            raise UserError(
                f'{self.out} holds results of another model or other settings ({before[NAME]}; {changed}); {fix}'
            )

    def add(self, record: Record, nuclei: Sequence[Sequence[object]] = ()) -> None:
        """Write a record, and its lines of nuclei.csv; call it after all other files of the image are written.

        Several threads may add images, each its own, while one of them writes tables.

        Raises:
            UserError: see `whole_file`.
        """
        path = self._path(record.image)
        if record.done:
            write_csv(path.with_suffix('.csv'), NUCLEI_HEADER, nuclei)
        write_json(path, asdict(record), indent=None)
        self.all[record.image] = record

    def remove(self, images: Iterable[str]) -> None:
        """Remove results, so that after a kill neither tables nor records vouch for files that are gone."""
        removed = [self.all[image] for image in images]
        for record in removed:
            self.add(record.begun())
            del self.all[record.image]
        if removed:
            self.write_tables()
        for record in removed:
            discard(self.out, Path(record.file).stem)
            for path in (self._path(record.image), self._path(record.image).with_suffix('.csv')):
                path.unlink(missing_ok=True)

    def write_tables(self) -> None:
        """Write nuclei.csv and images.csv of all records, sorted by image.

        Raises:
            UserError: see `whole_file`.
        """
        begun = time.perf_counter()
        records = [self.all[image] for image in sorted(self.all)]
        images, nuclei = self.out / IMAGES, self.out / NUCLEI
        with whole_file(images) as unfinished_images, whole_file(nuclei) as unfinished_nuclei:
            write_csv(unfinished_images, IMAGES_HEADER, (record.line() for record in records))
            write_csv(unfinished_nuclei, NUCLEI_HEADER, ())
            header = unfinished_nuclei.read_bytes()
            with unfinished_nuclei.open('ab') as table:
                table.writelines(self._lines(record, header) for record in records if record.done)
            # Two files cannot be replaced at once, and no one shall find two that disagree.
            images.unlink(missing_ok=True)
        self.written = time.perf_counter()
        self.seconds = self.written - begun

    def write_tables_in_time(self) -> None:
        """Write the tables, unless that would take more than a small share of the time (TABLE_SHARE)."""
        if self.seconds <= TABLE_SHARE * (time.perf_counter() - self.written):
            self.write_tables()

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

    def _path(self, image: str) -> Path:
        return self.folder / _file_name(image)


def _file_name(image: str) -> str:
    """Name the record of an image: any name, however long, has a digest that can name a file."""
    return f'{hashlib.sha256(image.encode()).hexdigest()[:32]}.json'


def _read(path: Path) -> Record:
    try:
        record = Record(**json.loads(path.read_text(encoding='utf-8')))
        if path.name != _file_name(record.image) or not isinstance(record.file, str):
            raise ValueError('of another image')
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f'{path} is damaged or of another version; delete it and predict its image again') from error
    return record
