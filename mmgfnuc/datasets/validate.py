"""Checks of a canonical dataset that run before training and name every bad file at once."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected_components

from mmgfnuc.datasets.canonical import (
    IMAGE_FORM,
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
ERROR, WARNING = 'error', 'warning'
# An overlap may cut a lone nucleus in two or three; more pieces of one id are many nuclei under one number.
MOST_PIECES_OF_ONE_NUCLEUS = 3
BINARY_MAP = 'binary map'
# Maps with more ids are not of classes.
MOST_CLASSES = 255
# The largest of 14,000 nuclei of NuInsSeg and DSB2018 is 3.6 times as wide as the median of its image.
TIMES_THE_MEDIAN = 10
# Nuclei cover more in 7 of 388 images, at most 59 %.
LARGEST_SHARE = 0.5
LEAK = 'leak between parts of a split'
LEAK_FIX = 'keep it in one part, or name the split in "splits_with_leaks" of meta.json if its authors made it so'

Argument = TypeVar('Argument')
Result = TypeVar('Result')
Map = TypeVar('Map', LabelMap, Mask, TypeMap)


@dataclass(frozen=True)
class Problem:
    """One fault of a dataset: what it is called, the file or id it is in, what is wrong, how to correct it.

    An error keeps the dataset from being trained on; a warning is for a human to look at.
    """

    kind: str
    where: str
    what: str
    fix: str
    severity: str = ERROR

    def __str__(self) -> str:
        return f'{self.where}: {self.what}; {self.fix}'


class Sizes(NamedTuple):
    """Ids and areas in pixels of the nuclei of one image, and the pixels of the image."""

    ids: NDArray[np.integer]
    areas: NDArray[np.integer]
    pixels: int


class CheckedSample(NamedTuple):
    """Faults of one sample, and those of its maps that can be read."""

    problems: list[Problem]
    instances: LabelMap | None
    ignore: Mask | None
    types: TypeMap | None


def validate_dataset(root: str | Path, split: str | None = None) -> list[Problem]:
    """Every fault of the dataset at `root`, in the order of the files; an empty list means that it is valid.

    Errors are: no images; an image that is unreadable or not PNG; image without label map; label, ignore or type map
    without image; sizes of image and maps that differ; labels that are not integers; a binary map given as instances
    (the only id is 255 and lies in several pieces, or is 1 and lies in more than three) or a map of classes (most ids
    lie in more than three pieces); a type above the classes of meta.json; no nucleus in the whole set; a missing or
    incomplete meta.json. Of `split`: it does not exist, an empty part, an id in two parts or twice in one, an id
    without image, a group in two parts (unless meta.json names the split in `splits_with_leaks`). Warnings are: a
    nucleus more than ten times as wide as the median of the set; nuclei that cover more than half of an image.

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
        checked = list(pool.map(partial(_faults_and_sizes, root, meta), ids))
    problems += [problem for faults, _ in checked for problem in faults]
    problems += check_content(root, ids, any(sizes is None or sizes.ids.size for _, sizes in checked))
    problems += check_sizes(root, {i: sizes for i, (_, sizes) in zip(ids, checked, strict=True) if sizes is not None})
    if split is not None:
        problems += check_split(root, split, set(ids), meta)
    return problems


def check_dataset(root: str | Path, split: str | None = None) -> None:
    """Raise if `validate_dataset` finds an error; warn about the rest, once for each kind.

    Raises:
        UserError: Its first line counts the errors, then comes one line for each.

    """
    found = validate_dataset(root, split)
    warned: dict[str, list[Problem]] = defaultdict(list)
    for problem in found:
        if problem.severity == WARNING:
            warned[problem.kind].append(problem)
    for kind, alike in warned.items():
        warnings.warn(f'{len(alike)} x {kind}, first {alike[0]}', stacklevel=2)
    problems = [problem for problem in found if problem.severity == ERROR]
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
        problems += [Problem(kind, str(paths.label), what, fix) for kind, what, fix in many_under_one_id(instances)]
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


def _faults_and_sizes(root: Path, meta: Mapping[str, Any], sample_id: str) -> tuple[list[Problem], Sizes | None]:
    """Faults of one sample, and the sizes of its nuclei if it has none."""
    checked = check_sample(root, meta, sample_id)
    if checked.problems or checked.instances is None:
        return checked.problems, None
    return [], measure_sizes(checked.instances)


def measure_sizes(instances: LabelMap) -> Sizes:
    """Measure the nuclei of a label map.

    Shape:
        - instances: (H, W)
    """
    if instances.max(initial=0) < instances.size:  # else counting would take more memory than sorting
        counts = np.bincount(instances.ravel())
        ids = np.flatnonzero(counts)
        ids, areas = ids[ids > 0], counts[ids[ids > 0]]
    else:
        ids, areas = np.unique(instances[instances > 0], return_counts=True)
    return Sizes(ids, areas, instances.size)


def check_sizes(root: Path, images: Mapping[str, Sizes]) -> Iterator[Problem]:
    """Nuclei that are far larger than others, and images that they cover for the most part."""
    areas = [sizes.areas for sizes in images.values()]
    usual = float(np.median(np.concatenate(areas))) if any(map(len, areas)) else 0.0
    for sample_id, (ids, own, pixels) in images.items():
        where = str(sample_paths(root, sample_id).label)
        # Diameters are as the square roots of areas.
        giants = ids[own > TIMES_THE_MEDIAN**2 * usual].tolist()
        if giants:
            yield Problem(
                f'nucleus above {TIMES_THE_MEDIAN} times the median diameter',
                where,
                f'{len(giants)} (id {", ".join(map(str, giants[:5]))}{", ..." if len(giants) > 5 else ""})',
                'check whether it is an area of tissue or the background; take it out of the label map',
                WARNING,
            )
        if own.sum() > LARGEST_SHARE * pixels:
            yield Problem(
                'foreground above half of the image',
                where,
                f'nuclei cover {own.sum() / pixels:.0%}',
                'if nuclei and background are exchanged, prepare the masks with --invert; dense tissue may be right',
                WARNING,
            )


def _attempt(read: Callable[[Argument], Result], path: Argument, problems: list[Problem]) -> Result | None:
    try:
        return read(path)
    except BadFileError as error:
        problems.append(unusable(error))
        return None


def _times(size: tuple[int, ...]) -> str:
    return 'x'.join(map(str, size))


def many_under_one_id(instances: LabelMap) -> Iterator[tuple[str, str, str]]:
    """What a map is that bears one id for many nuclei, binary or of classes: kind, fault and fix; nothing if it is not.

    Shape:
        - instances: (H, W)
    """
    ids = measure_sizes(instances).ids
    if not 0 < ids.size <= MOST_CLASSES:
        return
    regions, count = connected_components(instances, return_num=True)
    id_of_region = np.zeros(count + 1, np.int64)
    id_of_region[regions] = instances
    pieces = np.bincount(np.searchsorted(ids, id_of_region[1:]), minlength=len(ids))
    numbering = 'number the nuclei 1, 2, 3, ... (skimage.measure.label splits those that do not touch)'
    # One nucleus may be cut by another in few places; a lone nucleus with the id 255 is not a fault.
    if len(ids) == 1 and ids[0] in (1, 255):
        if pieces[0] > (MOST_PIECES_OF_ONE_NUCLEUS if ids[0] == 1 else 1):
            yield BINARY_MAP, f'a 0/{ids[0]} binary map given as instances', numbering
    elif np.median(pieces) > MOST_PIECES_OF_ONE_NUCLEUS:
        most = f'most of its {len(ids)} ids lie in many pieces, {count} in all'
        what = f'{most}: a map of classes, or of many nuclei under one number, given as instances'
        yield 'ids in many pieces', what, f'{numbering}; classes belong into types/'


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
            yield Problem('bad entry in meta.json', str(path), what, f'give {IMAGE_FORM}')


def described_images(meta: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Valid entries of `images` in meta.json, by id."""
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
