"""Finds the nuclei of a list of image files, into an output folder; docs/prediction.md says what it holds."""

import glob
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmgfnuc.datasets.images import IMAGE_SUFFIXES, read_image
from mmgfnuc.datasets.limits import require_room
from mmgfnuc.errors import UserError
from mmgfnuc.files import DiskFullError, output_lock, write_json
from mmgfnuc.visualization.overlay import draw_overlay

from .geojson import feature_collection
from .measurements import MEASURES, Measures, measure_nuclei
from .pixel_size import PixelSize, scale_notices, stated_mpp
from .predictor import Predictor
from .results import Record, Records, printable, write_label_map, write_mask, write_png

FILES = {'labels': ('.png', '.tif'), 'masks': ('.png',), 'overlays': ('.png',), 'geojson': ('.geojson',)}
# For each pixel that the model sees: its maps, nuclei, measures and overlay. On a CPU the largest resident memory
# (ru_maxrss) grew by 90 to 105 in images of 2,048 to 4,096 pixels a side with 700 nuclei in each megapixel, head
# `hover`; the rest is for maps of types.
PREDICTION_BYTES = 130
DECIMALS = 4
SHOWN = 20
# As torch, CUDA, NumPy and OpenCV say it.
NO_MEMORY = re.compile('out of memory|(not enough|insufficient|allocate) memory', re.IGNORECASE)

Rows = list[list[Any]]


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


def segment_images(predictor: Predictor, images: list[Path], out: str | Path) -> None:
    """Write labels/, masks/, overlays/, geojson/, nuclei.csv and images.csv for all images, and print what was found.

    Results of these images from earlier runs are replaced, those of other images stay. However the run ends, the tables
    hold what is complete; only after a kill may they lack the last images, until the next run.

    Raises:
        UserError: some images failed, the others are done all the same; or another process writes to the folder, or the
            disk is full.
    """
    out = Path(out)
    if (out / 'meta.json').exists():
        raise UserError(f'{out} holds a dataset, whose labels/ would be written over; name another output folder')
    files = {_name(path): path for path in images}
    with output_lock(out):
        records = Records(out)
        for folder in FILES:
            (out / folder).mkdir(exist_ok=True)
        _tell_again(records.all, files)
        stated = {path: stated_mpp(path) for path in images}
        for notice in scale_notices(stated, predictor.pixel_sizes):
            print(notice)
        counts: Counter[str] = Counter()
        failures: list[str] = []
        try:
            with closing(records.in_batches(list(files))) as names:
                for name in tqdm(names, desc='segment', unit='image', total=len(images)):
                    record = _segment(predictor, records, name, files[name], stated[files[name]])
                    counts.update(images=int(not record.reason), nuclei=record.nuclei)
                    failures += [record.reason] if record.reason else []
        finally:
            records.write_tables()
            given = '' if counts['images'] == len(images) else f' of {len(images)}'
            print(f'{counts["images"]}{given} images, {counts["nuclei"]} nuclei -> {printable(str(out))}')
    if failures:
        raise UserError(f'{len(failures)} of {len(images)} images failed:\n' + _listed(failures, '\n'))


def _tell_again(records: Mapping[str, Record], files: Mapping[str, Path]) -> None:
    """Say which results the run replaces."""
    again = [(records[name].file, _full(path)) for name, path in files.items() if name in records]
    if again:
        print(f'notice: {len(again)} of {len(files)} images have results of an earlier run; these are replaced')
    others = [f'{old} by {new}' for old, new in again if old != new]
    if others:
        print(f'warning: {len(others)} of these are of another file of that name: {_listed(others)}')


def _segment(predictor: Predictor, records: Records, name: str, path: Path, stated: float | UserError | None) -> Record:
    """Predict one image, write its files and its record; where an error ends it, none of its files is left."""
    try:
        size, rows = _predict(predictor, name, path, records.out, stated)
        record = Record(name, _full(path), len(rows), size.mpp)
        records.add(record, rows)
    except BaseException as error:
        records.forget(name)
        _discard(records.out, path.stem)
        reason = _own_fault(path, error)
        if not reason:
            raise
        record = Record(name, _full(path), 0, None, printable(reason))
        records.add(record)
    return record


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


def _predict(
    predictor: Predictor, name: str, path: Path, out: Path, stated: float | UserError | None
) -> tuple[PixelSize, Rows]:
    """Write all files of one image, and give the size of its pixels and its lines of the table."""
    image = read_image(path)
    size = predictor.pixel_size(image, stated=stated)
    if predictor.device.type == 'cpu':  # else most of it lies in the memory of the GPU
        height, width = image.shape[:2]
        per_pixel = round(PREDICTION_BYTES * predictor.largest_scale(size.mpp) ** 2)
        require_room(path, height, width, per_pixel, purpose='to be predicted')
    nuclei = predictor(image, size)
    labels, types = nuclei.labels, nuclei.types
    classes, palette = predictor.preprocessing.classes, predictor.preprocessing.palette
    measures = measure_nuclei(nuclei, image, size.known)
    values = _rounded(measures)
    overlay = draw_overlay(image, labels, types, classes, palette)
    outlines = feature_collection(name, labels, types, classes, palette, values)
    # After a kill between two of the files no earlier one shall stand beside them.
    _discard(out, path.stem)
    write_label_map(out / 'labels', path.stem, labels)
    write_mask(out / 'masks' / f'{path.stem}.png', nuclei.semantic, len(classes))
    write_png(out / 'overlays' / f'{path.stem}.png', overlay)
    write_json(out / 'geojson' / f'{path.stem}.geojson', outlines, indent=None)
    rows = [
        [name, number, classes[kind] if kind else '', *(of_one.get(measure, '') for measure in MEASURES)]
        for number, kind, of_one in zip(measures['nucleus'].tolist(), types, values, strict=True)
    ]
    return size, rows


def _discard(out: Path, stem: str) -> None:
    """Remove the files of one image; a link or a folder in the place of one is not ours."""
    for folder, suffixes in FILES.items():
        for path in (out / folder / f'{stem}{suffix}' for suffix in suffixes):
            # A name that is too long for a file names none.
            with suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    path.unlink()


def _rounded(measures: Measures) -> list[dict[str, float]]:
    """Give the measures of each nucleus by name."""
    given = {measure: measures[measure].round(DECIMALS).tolist() for measure in MEASURES if measure in measures}
    return [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]


def _name(path: Path) -> str:
    return printable(path.stem)


def _full(path: Path) -> str:
    return printable(str(path.resolve()))


def _listed(items: Sequence[str], mark: str = ', ') -> str:
    more = [f'... and {len(items) - SHOWN} more'] if len(items) > SHOWN else []
    return mark.join([*items[:SHOWN], *more])
