"""The inspection of a dataset: every image is read once, in parallel."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmgfnuc.datasets.canonical import (
    CLASSES,
    BadFileError,
    list_ids,
    list_splits,
    read_image,
    read_split,
    sample_paths,
)
from mmgfnuc.datasets.validate import (
    Problem,
    Sizes,
    check_content,
    check_frame,
    check_sample,
    check_sizes,
    check_split,
    described_images,
    unusable,
)

from .faults import ERROR, Fault, by_group, faults_of_problems, find_faults, leak_faults, merged
from .measure import ClassNumbers, Measured, Numbers, count_class, measure_image, summarise

UNKNOWN_GROUP = '(unknown)'


@dataclass(frozen=True)
class Report:
    """Numbers and faults of a dataset.

    Attributes:
        root: its folder.
        name: of the set.
        licence: as in meta.json.
        citation: as in meta.json.
        source: as in meta.json.
        classes: background first.
        images: number of images; those with a broken file are not measured.
        measured: the images that could be measured.
        total: numbers of all measured images; None without any.
        groups: numbers of each group.
        types: numbers of each class but the background; empty without nucleus types.
        splits: number of images in each part of each split.
        faults: the grave ones first.
    """

    root: Path
    name: str
    licence: str
    citation: str
    source: str
    classes: tuple[str, ...]
    images: int
    measured: tuple[Measured, ...]
    total: Numbers | None
    groups: dict[str, Numbers]
    types: dict[str, ClassNumbers]
    splits: dict[str, dict[str, int]]
    faults: tuple[Fault, ...]

    def count(self, severity: str) -> int:
        """Number of kinds of faults of a severity."""
        return sum(fault.severity == severity for fault in self.faults)

    @property
    def sound(self) -> bool:
        """Whether no fault is an error."""
        return not self.count(ERROR)

    def to_json(self) -> dict[str, Any]:
        """All but the single images, for `json.dump`."""
        content = {name: value for name, value in vars(self).items() if name not in ('measured', 'root')}
        content |= {'root': str(self.root), 'measured': len(self.measured)}
        content['total'] = self.total and asdict(self.total)
        for name in ('groups', 'types'):
            content[name] = {key: asdict(numbers) for key, numbers in getattr(self, name).items()}
        return content | {'faults': [asdict(fault) for fault in self.faults]}


def inspect_dataset(root: str | Path) -> Report:
    """Measure every image of a dataset in the canonical form, and find its faults.

    Raises:
        UserError: `root` holds no dataset; the text gives the command that prepares one.
    """
    root = Path(root)
    ids = list_ids(root)
    problems, meta = check_frame(root, ids)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = pool.map(partial(_inspect_sample, root, meta, described_images(meta)), ids)
        checked = list(tqdm(outcomes, total=len(ids), desc='inspect', unit='image'))
    problems += [problem for faults, _ in checked for problem in faults]
    measured = tuple(image for _, image in checked if image is not None)
    problems += check_content(root, ids, any(image is None or image.nuclei.ids.size for _, image in checked))
    sizes = {image.id: Sizes(image.nuclei.ids, image.nuclei.areas, image.pixels) for image in measured}
    problems += check_sizes(root, sizes)
    splits, split_faults = _inspect_splits(root, set(ids), meta, measured)
    classes = tuple(meta.get('classes', CLASSES))
    named = {key: str(meta.get(key) or '') for key in ('name', 'licence', 'citation', 'source')}
    return Report(
        root=root,
        **named | {'name': named['name'] or root.name},
        classes=classes,
        images=len(ids),
        measured=measured,
        total=summarise(measured) if measured else None,
        groups={group: summarise(members) for group, members in by_group(measured).items()},
        types=_number_types(measured, classes),
        splits=splits,
        faults=tuple(merged([*faults_of_problems(root, problems), *split_faults, *find_faults(measured, classes)])),
    )


def _inspect_sample(
    root: Path, meta: Mapping[str, Any], described: Mapping[str, dict[str, Any]], sample_id: str
) -> tuple[list[Problem], Measured | None]:
    """Faults of the files of one sample; its measurements if there are none."""
    problems, instances, ignore, types = check_sample(root, meta, sample_id)
    if problems or instances is None:
        return problems, None
    path = sample_paths(root, sample_id).image
    try:
        image = read_image(path)
    except BadFileError as error:  # the checksums of a file may hold where its content does not
        return [unusable(error)], None
    entry = described.get(sample_id, {'group': UNKNOWN_GROUP, 'mpp': None})
    return [], measure_image(sample_id, entry['group'], entry['mpp'], image, instances, ignore, types)


def _inspect_splits(
    root: Path, ids: set[str], meta: Mapping[str, Any], measured: Iterable[Measured]
) -> tuple[dict[str, dict[str, int]], list[Fault]]:
    """Size of the parts, and faults, of every split that can be read."""
    groups = {image.id: image.group for image in measured}
    digests = {image.id: image.digest for image in measured}
    sizes, faults = {}, []
    for name in list_splits(root):
        faults += faults_of_problems(root, check_split(root, name, ids, meta))
        try:
            parts = read_split(root, name)
        except BadFileError:  # reported by check_split
            continue
        sizes[name] = {part: len(members) for part, members in parts.items()}
        faults += leak_faults(name, parts, groups, digests, name in meta.get('splits_with_leaks', ()))
    return sizes, faults


def _number_types(measured: tuple[Measured, ...], classes: tuple[str, ...]) -> dict[str, ClassNumbers]:
    if len(classes) <= len(CLASSES):
        return {}
    return {name: count_class(measured, index) for index, name in enumerate(classes) if index}
