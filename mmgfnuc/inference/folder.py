"""Finds the nuclei of a list of image files, into an output folder; docs/prediction.md says what it holds."""

import glob
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from mmgfnuc.datasets.images import IMAGE_SUFFIXES
from mmgfnuc.errors import UserError
from mmgfnuc.files import DiskFullError, file_sha256, output_lock

from .nuclei import DECIMALS
from .pixel_size import scale_notices, stated_mpp
from .predictor import Predictor
from .records import Record, Records
from .results import FILES, discard, printable
from .side_by_side import side_by_side
from .summary import summarise

SHOWN = 20
# As torch, CUDA, NumPy and OpenCV say it.
NO_MEMORY = re.compile('out of memory|(not enough|insufficient|allocate) memory', re.IGNORECASE)


def find_images(sources: Sequence[str]) -> list[Path]:
    """Return the files that paths, folders and glob patterns name, sorted.

    Files in a folder that are not images by their suffix are skipped, and named in one printed line; hidden files are
    left out.

    Raises:
        UserError: one of them names no image, or two images would write the same output.
    """
    found: set[Path] = set()
    skipped: list[str] = []
    for source in sources:
        files, others = _files_of(source)
        if not files:
            what = f'names no image{f", only {_listed(others)}" if others else ""}'
            raise UserError(
                f"'{printable(source)}' {what}; give a file, a folder or a glob of {', '.join(IMAGE_SUFFIXES)}"
            )
        found.update(files)
        skipped += others
    if skipped:
        print(f'notice: {len(skipped)} skipped, which are not files of {", ".join(IMAGE_SUFFIXES)}: {_listed(skipped)}')
    twice = [name for name, count in Counter(map(_name, found)).items() if count > 1]
    if twice:
        raise UserError(f"{len(twice)} file names differ only in folder or suffix, such as '{twice[0]}'; rename them")
    return sorted(found)


def _files_of(source: str) -> tuple[list[Path], list[str]]:
    """Files that a source names, and what it skips. A named pipe is not a file: reading it may never end."""
    path = Path(source)
    if not path.is_dir():
        named = [path] if path.is_file() else [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207
        return [file for file in named if file.is_file()], []
    # Hidden files are no one's images: macOS puts one beside each file of a disk that it has written to.
    entries = [entry for entry in path.iterdir() if not entry.name.startswith('.')]
    found = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    return found, [printable(str(entry)) for entry in sorted({*entries} - {*found})]


def segment_images(predictor: Predictor, images: list[Path], out: str | Path, overwrite: bool = False) -> None:
    """Write labels/, masks/, overlays/, geojson/, nuclei.csv and images.csv for all images, and print what was found.

    Images that an earlier run has done, with this model and these settings, are not done again, and results of other
    images stay. However the run ends, the tables hold what is complete; only after a kill may they lack the last
    images, until the next run.

    Args:
        predictor: finds the nuclei.
        images: files, see `find_images`.
        out: output folder.
        overwrite: remove all results that the folder has, and start anew.

    Raises:
        UserError: some images failed, the others are done all the same; or another process writes to the folder, it
            has results of another model, of other settings or of other files of these names, or the disk is full.
    """
    out = Path(out)
    if (out / 'meta.json').exists():
        raise UserError(f'{out} holds a dataset, whose labels/ would be written over; name another output folder')
    files = {_name(path): path for path in images}
    with output_lock(out):
        records = Records(out, predictor.describe(), overwrite)
        for folder in FILES:
            (out / folder).mkdir(exist_ok=True)
        left = _left_to_do(records, files)
        for notice in scale_notices([stated_mpp(path) for path in left.values()], predictor.pixel_sizes):
            print(notice)
        try:
            jobs = side_by_side(predictor, partial(_segment, records), list(left.items()))
            with closing(jobs), tqdm(jobs, desc='segment', unit='image', total=len(left)) as done:
                for _ in done:
                    records.write_tables_in_time()
        finally:
            records.write_tables()
            _tell(records, files)
    failures = [records.all[name].reason for name in left if not records.all[name].done]
    if failures:
        raise UserError(f'{len(failures)} of {len(images)} images failed:\n' + _listed(failures, '\n'))


def _left_to_do(records: Records, files: Mapping[str, Path]) -> dict[str, Path]:
    """Images that have no result, or whose file has changed since, in which case the result is removed.

    Raises:
        UserError: there are results of other files of these names.
    """
    done = {name: path for name, path in files.items() if name in records.all and records.all[name].done}
    changed = {name: path for name, path in done.items() if _sha256(path) != records.all[name].sha256}
    others = [
        f'{printable(records.all[name].file)} (now {_full(path)})'
        for name, path in changed.items()
        if records.all[name].file != str(path.resolve())
    ]
    if others:
        raise UserError(
            f'{records.out} holds results of other files of {len(others)} of these names: {_listed(others)}; name '
            'another --out, or start anew with --overwrite'
        )
    kept = done.keys() - changed.keys()
    records.remove(changed)
    if kept:
        print(f'notice: {len(kept)} of {len(files)} images are done already, with this model and these settings')
    if changed:
        print(
            f'notice: {len(changed)} of {len(files)} files have changed since they were done: {_listed(list(changed))}'
        )
    return {name: path for name, path in files.items() if name not in kept}


def _tell(records: Records, files: Mapping[str, Path]) -> None:
    """Print what the folder holds of these images, and what must be known of it."""
    done = [records.all[name] for name in files if name in records.all and records.all[name].done]
    warned: dict[str, list[str]] = {}
    for record in done:
        for warning in record.warnings:
            warned.setdefault(warning, []).append(record.image)
    if warned:
        print(_listed([f'warning: {warning}: {_listed(images)}' for warning, images in warned.items()], '\n'))
    given = '' if len(done) == len(files) else f' of {len(files)}'
    found = sum(record.nuclei or 0 for record in done)
    print(f'{len(done)}{given} images, {found} nuclei -> {printable(str(records.out))}')


def _segment(records: Records, predictor: Predictor, name: str, path: Path) -> None:
    """Predict one image, write its files and its record; where an error ends it, none of its files is left."""
    start = time.perf_counter()
    record = Record(name, str(path.resolve()), _sha256(path))
    records.add(record.begun())
    try:
        nuclei = predictor(path)
        nuclei.write_files(records.out)
        found = dict(summarise(nuclei), mpp_from=nuclei.mpp_from)
        found['mpp'] = None if nuclei.mpp is None else round(nuclei.mpp, DECIMALS)
        found['warnings'] = [printable(notice) for notice in nuclei.notices]
        found['seconds'] = round(time.perf_counter() - start, DECIMALS)
        records.add(replace(record, **found), nuclei.rows())
    except BaseException as error:
        discard(records.out, path.stem)
        reason = _own_fault(path, error)
        records.add(replace(record, reason=printable(reason)) if reason else record.begun())
        if not reason:
            raise


def _own_fault(path: Path, error: BaseException) -> str:
    """Say what is wrong with this image alone; nothing where other images would fail alike."""
    if isinstance(error, DiskFullError):
        return ''
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return f'{path}: its files cannot be read or written ({error.strerror}); check its name and the permissions'
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return f'{path}: too little memory for an image of this size; free memory, or cut the image into parts'
    return ''


def _sha256(path: Path) -> str:
    """Digest of a file; empty where it cannot be read, which is told when the image is."""
    try:
        return file_sha256(path)
    except OSError:
        return ''


def _name(path: Path) -> str:
    return printable(path.stem)


def _full(path: Path) -> str:
    return printable(str(path.resolve()))


def _listed(items: Sequence[str], mark: str = ', ') -> str:
    more = [f'... and {len(items) - SHOWN} more'] if len(items) > SHOWN else []
    return mark.join([*items[:SHOWN], *more])
