"""What may be wrong with a dataset, from its measurements.

An error keeps a model from being trained or scored as it should; a warning is for a human to look at; a remark is
nothing to mend.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.canonical import CLASSES
from mmgfnuc.datasets.splits import Split, find_leaks
from mmgfnuc.datasets.validate import ERROR, LEAK, LEAK_FIX, WARNING, Problem

from .measure import Measured, Nuclei, diameters

REMARK = 'remark'
SEVERITIES = (ERROR, WARNING, REMARK)

# At 0.25 micrometres per pixel 10 pixels are a disc of 0.9 micrometres, at 1.0 of 3.6: no whole nucleus is that small.
SPECK_AREA = 10
# In an image of tissue the colours spread by 9 levels and more (the least of 181 images of NuInsSeg has 8.8), on empty
# glass by the noise of the sensor.
BLANK_STD = 5.0
# Glass around a shred of tissue: nothing to learn from.
BLANK_WHITE = 0.95
# At most 0.6 % of the values are clipped in 181 images of NuInsSeg; where a quarter is, the stains cannot be told.
CLIPPED_SHARE = 0.25
# Most nuclei of mammals measure 5 to 15 micrometres, small and cut ones less. A mpp that is wrong by a factor of 4 (10x
# taken for 40x) leaves this range, one by a factor of 2 may not.
DIAMETER_UM = (3.0, 20.0)
# Fewer nuclei give no dependable median.
ENOUGH_NUCLEI = 10


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        severity: ERROR, WARNING or REMARK.
        kind: what it is called.
        count: how many there are, of what the kind names: nuclei, images, files.
        cases: one line for each image, file or group that has it.
        fix: what to do.
    """

    severity: str
    kind: str
    count: int
    cases: tuple[str, ...]
    fix: str


def faults_of_problems(root: Path, problems: Iterable[Problem]) -> list[Fault]:
    """What the validator finds; problems of one kind and one fix are counted together."""
    cases: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for problem in problems:
        line = f'{_within(root, problem.where)}: {problem.what}'
        cases[problem.severity, problem.kind, problem.fix].append(line)
    return [Fault(severity, kind, len(lines), tuple(lines), fix) for (severity, kind, fix), lines in cases.items()]


def _within(root: Path, where: str) -> str:
    path = Path(where)
    return str(path.relative_to(root)) if path.is_relative_to(root) and path != root else where


def find_faults(images: Sequence[Measured], classes: Sequence[str]) -> list[Fault]:
    """Faults of images, nuclei and their types."""
    found = [*_nucleus_faults(images), *_image_faults(images), *_type_faults(images, classes)]
    return [fault for fault in found if fault.count]


def _nucleus_faults(images: Sequence[Measured]) -> Iterator[Fault]:
    yield _of_nuclei(
        WARNING,
        'nucleus in several pieces',
        images,
        lambda nuclei: nuclei.pieces > 1,
        'number each piece by itself, or remove stray pixels; overlaps may cut a nucleus rightly',
    )
    yield _of_nuclei(
        WARNING,
        f'speck below {SPECK_AREA} pixels',
        images,
        lambda nuclei: (nuclei.areas < SPECK_AREA) & nuclei.whole,
        'remove specks from the label maps: they are slips of the pen, yet each counts as a nucleus',
    )
    yield _of_images(
        REMARK,
        'ids that are not 1 to n',
        images,
        lambda image: image.nuclei.ids.size and image.nuclei.ids[-1] != image.nuclei.ids.size,
        lambda image: f'{image.nuclei.ids.size} nuclei, largest id {image.nuclei.ids[-1]}',
        'nothing to do, ids only have to differ',
    )


def _image_faults(images: Sequence[Measured]) -> Iterator[Fault]:
    yield _of_images(
        WARNING,
        'image without any nucleus',
        images,
        lambda image: not image.nuclei.ids.size,
        lambda image: '',
        'see that it was annotated; tissue without nuclei is a good example too',
    )
    yield _of_images(
        WARNING,
        'blank image',
        images,
        is_blank,
        lambda image: f'standard deviation {max(image.std):.1f}, {image.white:.0%} white',
        'remove it, or export it again',
    )
    yield _of_images(
        WARNING,
        'clipped image',
        images,
        lambda image: image.clipped > CLIPPED_SHARE and not is_blank(image),
        lambda image: f'{image.clipped:.0%} of the values are 0 or 255',
        'export it again without contrast stretching; glass that the scanner made pure white loses nothing',
    )
    yield _of_images(
        WARNING,
        'mpp unknown',
        images,
        lambda image: image.mpp is None,
        lambda image: '',
        'prepare the dataset with --source-mpp, or set mpp in meta.json; without it sizes stay in pixels and '
        'no scale can be matched',
    )
    yield _implausible_sizes(images)
    yield _duplicates(images)


def is_blank(image: Measured) -> bool:
    """Whether an image is nearly one colour, or nearly all glass."""
    return max(image.std) < BLANK_STD or image.white > BLANK_WHITE


def _implausible_sizes(images: Sequence[Measured]) -> Fault:
    cases = []
    for group, members in by_group(images).items():
        sizes = diameters(members, in_um=True)
        if sizes.size >= ENOUGH_NUCLEI and not DIAMETER_UM[0] <= np.median(sizes) <= DIAMETER_UM[1]:
            cases.append(f'{group}: median {np.median(sizes):.1f} micrometres')
    kind = 'group with a median nucleus diameter outside {:g} to {:g} micrometres'.format(*DIAMETER_UM)
    return Fault(WARNING, kind, len(cases), tuple(cases), 'correct its mpp: prepare the dataset with --source-mpp')


def _duplicates(images: Sequence[Measured]) -> Fault:
    equal: dict[str, list[str]] = defaultdict(list)
    for image in images:
        equal[image.digest].append(image.id)
    cases = [' = '.join(ids) for ids in equal.values() if len(ids) > 1]
    count = sum(len(ids) - 1 for ids in equal.values())
    return Fault(WARNING, 'duplicate image', count, tuple(cases), 'remove all but one')


def _type_faults(images: Sequence[Measured], classes: Sequence[str]) -> Iterator[Fault]:
    typed = [image for image in images if image.typed]
    if len(classes) <= len(CLASSES):
        yield _of_images(
            WARNING,
            'type map of a set without types',
            typed,
            lambda image: True,
            lambda image: '',
            'name the types in "classes" of meta.json, or remove types/',
        )
        return
    yield _of_images(
        ERROR,
        'image without type map',
        images,
        lambda image: not image.typed,
        lambda image: '',
        'add types/<id>.png, or list only "background" and "nucleus" as classes in meta.json',
    )
    yield _of_nuclei(
        WARNING,
        'nucleus without type',
        typed,
        lambda nuclei: nuclei.types == 0,
        'give its pixels the index of a class in types/<id>.png',
    )
    yield _of_nuclei(
        WARNING,
        'nucleus with several types',
        typed,
        lambda nuclei: (nuclei.kinds > 1) & (nuclei.types > 0),
        'give all its pixels one type',
    )
    yield _of_images(
        WARNING,
        'type where no nucleus is',
        typed,
        lambda image: image.typed_background > 0,
        lambda image: f'{image.typed_background} pixels',
        'set types/<id>.png to 0 outside the nuclei, or add the nuclei to the label map',
    )


def leak_faults(
    name: str, parts: Split, groups: Mapping[str, str], digests: Mapping[str, str], meant: bool
) -> list[Fault]:
    """Images of equal content in two parts of a split. In a split that leaks on purpose, groups too; as a remark.

    Groups of other splits are those of `validate.check_split`, as are ids in two parts.
    """
    if meant:
        cases = [f'splits/{name}.json: {leak}' for leak in find_leaks(parts, groups, digests)]
        fix = 'nothing to do, but do not take its scores for those of unseen slides'
        return [Fault(REMARK, f'{LEAK}, meant by its authors', len(cases), tuple(cases), fix)] if cases else []
    times = Counter(sample_id for ids in parts.values() for sample_id in ids)
    once = {part: [i for i in ids if times[i] == 1] for part, ids in parts.items()}
    cases = [f'splits/{name}.json: {leak}' for leak in find_leaks(once, {}, digests)]
    return [Fault(ERROR, LEAK, len(cases), tuple(cases), LEAK_FIX)] if cases else []


def by_group(images: Iterable[Measured]) -> dict[str, list[Measured]]:
    """Images of each group, sorted by its name."""
    groups: dict[str, list[Measured]] = defaultdict(list)
    for image in images:
        groups[image.group].append(image)
    return dict(sorted(groups.items()))


def merged(faults: Iterable[Fault]) -> list[Fault]:
    """Faults of one kind as one, the grave ones first."""
    alike: dict[tuple[str, str, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        alike[fault.severity, fault.kind, fault.fix].append(fault)
    joined = [
        Fault(severity, kind, sum(f.count for f in found), tuple(case for f in found for case in f.cases), fix)
        for (severity, kind, fix), found in alike.items()
    ]
    return sorted(joined, key=lambda fault: SEVERITIES.index(fault.severity))


def _of_nuclei(
    severity: str, kind: str, images: Sequence[Measured], bad: Callable[[Nuclei], NDArray[np.bool_]], fix: str
) -> Fault:
    ids = {image.id: image.nuclei.ids[bad(image.nuclei)].tolist() for image in images}
    cases = tuple(f'{name}: {_numbered(found)}' for name, found in ids.items() if found)
    return Fault(severity, kind, sum(map(len, ids.values())), cases, fix)


def _numbered(ids: Sequence[int]) -> str:
    shown = ', '.join(map(str, ids[:5])) + (', ...' if len(ids) > 5 else '')
    return f'{len(ids)} (id {shown})'


def _of_images(
    severity: str,
    kind: str,
    images: Sequence[Measured],
    bad: Callable[[Measured], Any],
    detail: Callable[[Measured], str],
    fix: str,
) -> Fault:
    found = [image for image in images if bad(image)]
    cases = tuple(f'{image.id}: {detail(image)}' if detail(image) else image.id for image in found)
    return Fault(severity, kind, len(found), cases, fix)
