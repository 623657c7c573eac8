"""Checks of a canonical dataset that run before training and name every bad file at once.

Source: code: own.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from skimage.measure import label as connected_components

from mmgfnuc.datasets.canonical import (
    BadFileError,
    LabelMap,
    check_image,
    list_ids,
    read_ignore,
    read_label_map,
    read_meta,
    read_split,
    sample_paths,
)
from mmgfnuc.errors import UserError

LABEL_SUFFIXES = ('.png', '.tif')
# An overlap may cut a lone nucleus in two or three; more pieces of one id are many nuclei under one number.
MOST_PIECES_OF_ONE_NUCLEUS = 3


Result = TypeVar('Result')


@dataclass(frozen=True)
class Problem:
    """One fault of a dataset: the file or id it is in, what is wrong, how to mend it."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f'{self.where}: {self.what}; {self.fix}'


def validate_dataset(root: str | Path, split: str | None = None) -> list[Problem]:
    """Every fault of the dataset at `root`, in the order of the files; an empty list means that it is sound.

    Reported are: no images; an image that is unreadable or not PNG; image without label map, label or ignore map
    without image; sizes of image, label and ignore map that differ; labels that are no integers; a binary map given
    as instances (the only id is 255 and lies in several pieces, or is 1 and lies in more than three); no nucleus in the
    whole set; a missing or incomplete meta.json. Of `split`: it does not exist, an empty part, an id in two parts or
    twice in one, an id without image.

    Args:
        root: Folder of the dataset.
        split: Name of a file in `splits/`, without `.json`; None checks no split.

    Raises:
        UserError: `root` holds no dataset; the text gives the command that prepares one.

    """
    root = Path(root)
    ids = list_ids(root)
    problems = [*_stray_files(root, set(ids)), *_meta_problems(root, ids)]
    with ThreadPoolExecutor() as pool:
        checked = list(pool.map(partial(_check_sample, root), ids))
    problems += [problem for faults, _ in checked for problem in faults]
    if not ids:
        problems.append(Problem(str(root / 'images'), 'empty set, no *.png there', 'add images, or prepare it again'))
    elif not any(faults or has_nuclei for faults, has_nuclei in checked):
        problems.append(Problem(str(root / 'labels'), 'no nucleus in any label map', 'check that they hold the ids'))
    if split is not None:
        problems += _split_problems(root, split, set(ids))
    return problems


def check_dataset(root: str | Path, split: str | None = None) -> None:
    """Raise if `validate_dataset` finds anything.

    Raises:
        UserError: Its first line counts the problems, then comes one line for each.

    """
    problems = validate_dataset(root, split)
    if problems:
        count = '1 problem' if len(problems) == 1 else f'{len(problems)} problems'
        raise UserError('\n'.join([f'{count} in {root}:', *map(str, problems)]))


def _check_sample(root: Path, sample_id: str) -> tuple[list[Problem], bool]:
    """Faults of one sample, and whether it has a nucleus."""
    paths = sample_paths(root, sample_id)
    problems: list[Problem] = []
    size = _attempt(check_image, paths.image, problems)
    instances = ignore = None
    if paths.label.exists():
        instances = _attempt(read_label_map, paths.label, problems)
    else:
        problems.append(Problem(str(paths.image), 'image without label', f'add {paths.label}, or remove the image'))
    if paths.ignore:
        ignore = _attempt(read_ignore, paths.ignore, problems)
    for path, array in ((paths.label, instances), (paths.ignore, ignore)):
        if size and array is not None and array.shape != size:
            what = f'size {_times(array.shape)} differs from {_times(size)} (height x width) of {paths.image.name}'
            problems.append(Problem(str(path), what, 'export image and maps at one size'))
    if instances is not None:
        problems += _binary_map_problems(paths.label, instances)
    return problems, instances is not None and bool(instances.any())


def _attempt(read: Callable[[Path], Result], path: Path, problems: list[Problem]) -> Result | None:
    try:
        return read(path)
    except BadFileError as error:
        problems.append(_problem(error))
        return None


def _times(size: tuple[int, ...]) -> str:
    return 'x'.join(map(str, size))


def _binary_map_problems(path: Path, instances: LabelMap) -> Iterator[Problem]:
    largest = int(instances.max(initial=0))
    if largest not in (1, 255) or np.any((instances != 0) & (instances != largest)):
        return
    # One nucleus may be cut by another in few places; a lone nucleus that bears the id 255 is no fault.
    most = MOST_PIECES_OF_ONE_NUCLEUS if largest == 1 else 1
    if connected_components(instances, return_num=True)[1] > most:
        yield Problem(
            str(path),
            f'a 0/{largest} binary map given as instances',
            'number the nuclei 1, 2, 3, ... (skimage.measure.label splits those that do not touch)',
        )


def _stray_files(root: Path, ids: set[str]) -> Iterator[Problem]:
    for path in _files(root / 'images'):
        if path.suffix != '.png':
            yield Problem(str(path), 'not a .png file, so it is not read', 'convert it to PNG or remove it')
    for kind, suffixes in (('label', LABEL_SUFFIXES), ('ignore', ('.png',))):
        folder = root / ('labels' if kind == 'label' else kind)
        for path in _files(folder):
            if path.suffix not in suffixes:
                wanted = ' or '.join(suffixes)
                yield Problem(str(path), f'not a {wanted} file, so it is not read', 'convert it or remove it')
            elif path.stem not in ids:
                yield Problem(str(path), f'{kind} without image', f'add images/{path.stem}.png, or remove it')


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith('.'))


def _meta_problems(root: Path, ids: list[str]) -> Iterator[Problem]:
    try:
        described = read_meta(root)['images']
    except BadFileError as error:
        yield _problem(error)
        return
    for sample_id in ids:
        entry = described.get(sample_id) if isinstance(described, dict) else None
        if entry is None:
            yield Problem(str(root / 'meta.json'), f'no entry for image {sample_id!r}', 'add its group and mpp')
        elif not _is_described(entry):
            what = f'entry {entry!r} of image {sample_id!r}'
            yield Problem(str(root / 'meta.json'), what, 'give {"group": "name", "mpp": number above 0 or null}')


def _is_described(entry: object) -> bool:
    if not (isinstance(entry, dict) and isinstance(entry.get('group'), str) and 'mpp' in entry):
        return False
    mpp = entry['mpp']
    return mpp is None or (isinstance(mpp, int | float) and mpp > 0)


def _split_problems(root: Path, split: str, ids: set[str]) -> Iterator[Problem]:
    try:
        parts = read_split(root, split)
    except BadFileError as error:
        yield _problem(error)
        return
    where = str(root / 'splits' / f'{split}.json')
    found: dict[str, list[str]] = defaultdict(list)
    for part, members in parts.items():
        if not members:
            yield Problem(where, f'part {part!r} is empty', 'give it ids')
        for sample_id in members:
            found[sample_id].append(part)
    for sample_id, in_parts in found.items():
        if sample_id not in ids:
            yield Problem(where, f'id {sample_id!r} does not exist in images/', 'remove it, or add the image')
        if len(in_parts) > 1:
            yield Problem(where, f'id {sample_id!r} stands in {" and ".join(in_parts)}', 'keep it in one part, once')


def _problem(error: BadFileError) -> Problem:
    return Problem(str(error.path), error.what, error.fix)
