"""Checks of a canonical dataset that run before training and name every bad file at once.

Source: code: own.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from skimage.measure import label as connected_components

from mmgfnuc.datasets.canonical import (
    BadFileError,
    LabelMap,
    Mask,
    TypeMap,
    check_image,
    is_described,
    list_ids,
    read_ignore,
    read_label_map,
    read_meta,
    read_split,
    read_types,
    sample_paths,
)
from mmgfnuc.datasets.splits import find_leaks
from mmgfnuc.errors import UserError

# What one file of a folder is called, and its formats.
FOLDERS = (
    ('images', 'image', ('.png',)),
    ('labels', 'label', ('.png', '.tif')),
    ('ignore', 'ignore', ('.png',)),
    ('types', 'types', ('.png',)),
)
# An overlap may cut a lone nucleus in two or three; more pieces of one id are many nuclei under one number.
MOST_PIECES_OF_ONE_NUCLEUS = 3
LEAK = 'leak between parts of a split'
LEAK_FIX = 'keep it in one part, or name the split in "splits_with_leaks" of meta.json if its authors made it so'

Argument = TypeVar('Argument')
Result = TypeVar('Result')
Map = TypeVar('Map', LabelMap, Mask, TypeMap)


@dataclass(frozen=True)
class Problem:
    """One fault of a dataset: what it is called, the file or id it is in, what is wrong, how to mend it."""

    kind: str
    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f'{self.where}: {self.what}; {self.fix}'


class CheckedSample(NamedTuple):
    """Faults of one sample, and those of its maps that can be read."""

    problems: list[Problem]
    instances: LabelMap | None
    ignore: Mask | None
    types: TypeMap | None


def validate_dataset(root: str | Path, split: str | None = None) -> list[Problem]:
    """Every fault of the dataset at `root`, in the order of the files; an empty list means that it is sound.

    Reported are: no images; an image that is unreadable or not PNG; image without label map; label, ignore or type map
    without image; sizes of image and maps that differ; labels that are no integers; a binary map given as instances
    (the only id is 255 and lies in several pieces, or is 1 and lies in more than three); a type above the classes of
    meta.json; no nucleus in the whole set; a missing or incomplete meta.json. Of `split`: it does not exist, an empty
    part, an id in two parts or twice in one, an id without image, a group in two parts (unless meta.json names the
    split in `splits_with_leaks`).

    Args:
        root: Folder of the dataset.
        split: Name of a file in `splits/`, without `.json`; None checks no split.

    Raises:
        UserError: `root` holds no dataset; the text gives the command that prepares one.

    """
    root = Path(root)
    ids = list_ids(root)
    problems, meta = check_frame(root, ids)
    with ThreadPoolExecutor() as pool:
        checked = list(pool.map(partial(_faults_and_nuclei, root, meta), ids))
    problems += [problem for faults, _ in checked for problem in faults]
    problems += check_content(root, ids, any(faults or has_nuclei for faults, has_nuclei in checked))
    if split is not None:
        problems += check_split(root, split, set(ids), meta)
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


def check_frame(root: Path, ids: list[str]) -> tuple[list[Problem], dict[str, Any]]:
    """Faults of file names and of meta.json; and what meta.json holds, nothing where it cannot be read."""
    problems = list(_stray_files(root, set(ids)))
    meta = _attempt(read_meta, root, problems) or {}
    if meta:
        problems += _meta_problems(root / 'meta.json', meta['images'], ids)
    return problems, meta


def check_content(root: Path, ids: list[str], has_nuclei: bool) -> Iterator[Problem]:
    """A set without an image, or without a nucleus in any."""
    if not ids:
        fix = 'add images, or prepare it again'
        yield Problem('empty set', str(root / 'images'), 'empty set, no *.png there', fix)
    elif not has_nuclei:
        fix = 'check that they hold the ids'
        yield Problem('set without nuclei', str(root / 'labels'), 'no nucleus in any label map', fix)


def check_sample(root: Path, meta: Mapping[str, Any], sample_id: str) -> CheckedSample:
    """Read the maps of one sample and find its faults."""
    paths = sample_paths(root, sample_id)
    problems: list[Problem] = []
    size = _attempt(check_image, paths.image, problems)
    label = paths.label if paths.label.exists() else None
    if label is None:
        what = 'image without label'
        problems.append(Problem(what, str(paths.image), what, 'add its label map, or remove the image'))
    instances = _read_map(read_label_map, label, size, problems)
    ignore = _read_map(read_ignore, paths.ignore, size, problems)
    types = _read_map(read_types, paths.types, size, problems)
    if instances is not None:
        problems += _binary_map_problems(paths.label, instances)
    if types is not None and meta and types.max(initial=0) >= len(meta['classes']):
        what = f'type {types.max()}, but meta.json has {len(meta["classes"])} classes'
        problems.append(Problem('type above the classes', str(paths.types), what, 'correct the map, or add the class'))
    return CheckedSample(problems, instances, ignore, types)


def _read_map(
    read: Callable[[Path], Map], path: Path | None, size: tuple[int, int] | None, problems: list[Problem]
) -> Map | None:
    if path is None:
        return None
    array = _attempt(read, path, problems)
    if array is not None and size and array.shape != size:
        what = f'size {_times(array.shape)} differs from {_times(size)} (height x width) of {path.stem}.png'
        problems.append(Problem('sizes differ', str(path), what, 'export image and maps at one size'))
    return array


def _faults_and_nuclei(root: Path, meta: Mapping[str, Any], sample_id: str) -> tuple[list[Problem], bool]:
    """Faults of one sample, and whether it has a nucleus."""
    checked = check_sample(root, meta, sample_id)
    return checked.problems, checked.instances is not None and bool(checked.instances.any())


def _attempt(read: Callable[[Argument], Result], path: Argument, problems: list[Problem]) -> Result | None:
    try:
        return read(path)
    except BadFileError as error:
        problems.append(unusable(error))
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
            'binary map',
            str(path),
            f'a 0/{largest} binary map given as instances',
            'number the nuclei 1, 2, 3, ... (skimage.measure.label splits those that do not touch)',
        )


def _stray_files(root: Path, ids: set[str]) -> Iterator[Problem]:
    for folder, kind, suffixes in FOLDERS:
        for path in _files(root / folder):
            if path.suffix not in suffixes:
                what, fix = f'not a {" or ".join(suffixes)} file, so it is not read', 'convert it or remove it'
                yield Problem('file of another format', str(path), what, fix)
            elif path.stem not in ids:
                what = f'{kind} without image'
                yield Problem('map without image', str(path), what, 'add the image, or remove the file')


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith('.'))


def _meta_problems(path: Path, described: object, ids: list[str]) -> Iterator[Problem]:
    for sample_id in ids:
        entry = described.get(sample_id) if isinstance(described, dict) else None
        if entry is None:
            what, fix = f'no entry for image {sample_id!r}', 'add its group and mpp'
            yield Problem('image not in meta.json', str(path), what, fix)
        elif not is_described(entry):
            what = f'entry {entry!r} of image {sample_id!r}'
            fix = 'give {"group": "name", "mpp": number above 0 or null}'
            yield Problem('bad entry in meta.json', str(path), what, fix)


def described_images(meta: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sound entries of `images` in meta.json, by id."""
    images = meta.get('images')
    entries = images.items() if isinstance(images, dict) else ()
    return {sample_id: entry for sample_id, entry in entries if is_described(entry)}


def check_split(root: Path, split: str, ids: Set[str], meta: Mapping[str, Any]) -> list[Problem]:
    """Faults of one split."""
    problems: list[Problem] = []
    parts = _attempt(partial(read_split, root), split, problems)
    if parts is None:
        return problems
    where = str(root / 'splits' / f'{split}.json')
    found: dict[str, list[str]] = defaultdict(list)
    for part, members in parts.items():
        if not members:
            problems.append(Problem('empty part', where, f'part {part!r} is empty', 'give it ids'))
        for sample_id in members:
            found[sample_id].append(part)
    for sample_id, in_parts in found.items():
        if sample_id not in ids:
            what, fix = f'id {sample_id!r} does not exist in images/', 'remove it, or add the image'
            problems.append(Problem('id without image', where, what, fix))
        if len(in_parts) > 1:
            what, fix = f'id {sample_id!r} stands in {" and ".join(in_parts)}', 'keep it in one part, once'
            problems.append(Problem('id in several parts', where, what, fix))
    if split not in meta.get('splits_with_leaks', ()):
        # An id in several parts is reported above; its group is not reported again.
        once = {part: [i for i in members if len(found[i]) == 1] for part, members in parts.items()}
        groups = {sample_id: entry['group'] for sample_id, entry in described_images(meta).items()}
        problems += [Problem(LEAK, where, leak, LEAK_FIX) for leak in find_leaks(once, groups, {})]
    return problems


def unusable(error: BadFileError) -> Problem:
    """Report a file that cannot be read."""
    return Problem('unusable file', str(error.path), error.what, error.fix)
