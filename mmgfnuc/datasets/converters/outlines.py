"""Drawn outlines of any source: which become nuclei, which are left out, and the notices about it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from skimage.measure import label as connected_components

from mmgfnuc.datasets.canonical import BadFileError, LabelMap, Mask
from mmgfnuc.datasets.validate import MOST_PIECES_OF_ONE_NUCLEUS

from .notices import shortened
from .polygons import Box, Ring, fill, in_range, winding

# Parts, each an outer ring and its holes.
Area = list[list[Ring]]
# What was done with some outlines, and the names of those.
Notices = dict[str, list[str]]

# The loops of an outline that is a little untidy hold less than this part of it.
CROSSING_SHARE = 0.05
# An outline that loses more than this part to others is drawn twice, or lies below another.
COVERED_SHARE = 0.5
# So many outside the image, and more than inside, are not strays: the rest lies at wrong places.
FAR_TOO_MANY = 10
OUTSIDE = 'outside of the image'
TINY = 'too small to hold the centre of a pixel'
CROSSING = 'its border crosses itself'
NO_POINTS = 'no list of x and y in pixels'
NOT_FINITE = 'a coordinate is not finite or beyond 2**31'
NOTHING = 'less than 3 different points, which enclose nothing'
COVERED_OWN = (
    'outlines left out, others cover more than half, the rest is ignored (the one that comes first keeps shared pixels)'
)
SPLIT_THEM = (
    'draw each nucleus by itself (QuPath: Objects > Annotations > Split annotations; COCO: one annotation each)'
)
SCATTERED = f'outlines in more than {MOST_PIECES_OF_ONE_NUCLEUS} parts, taken for one nucleus; if not, {SPLIT_THEM}'
COVERED = 'outlines of which others cover more than half (the one that comes first keeps shared pixels)'


@dataclass(frozen=True)
class Outline:
    """One drawn shape.

    Attributes:
        name: in notices and errors, such as `feature 3`.
        area: x and y from the corner of the image, as all these tools count them: the first pixel is 0 to 1.
        kind: what it is, such as `Lymphocyte`; empty without.
        fault: why it cannot be drawn; empty where nothing is wrong. Its area becomes `ignore`.
        ignored: whether it stands for an area to be ignored, where no nucleus is.
        mask: its pixels, of a shape that is stored as such: a part of the image, and a mask of it.
    """

    name: str
    area: Area = field(default_factory=list)
    kind: str = ''
    fault: str = ''
    ignored: bool = False
    mask: tuple[Box, Mask] | None = None


@dataclass(frozen=True)
class Drawing:
    """Outlines as pixels.

    Attributes:
        instances: (H, W), outline k has id k + 1.
        unsure: (H, W), where an outline was left out or is to be ignored, and no nucleus is.
        notices: notices for the user.
    """

    instances: LabelMap
    unsure: Mask
    notices: Notices


def draw(path: Path, outlines: Sequence[Outline], shape: tuple[int, int], own: bool = False) -> Drawing:
    """Draw outlines; what cannot be drawn is left out with a notice.

    The first of two outlines keeps the pixels that they share. Of the user's own outlines, one of which others cover
    more than half is left out, and the rest of it is unsure: a nucleus was drawn twice, or found and then corrected.
    Sets of others are drawn as their authors do.

    Args:
        path: of their file, for errors.
        outlines: of nuclei and of areas to be ignored.
        shape: H, W in pixels.
        own: whether they are the user's own.

    Raises:
        BadFileError: None of the outlines can be drawn; or ten and more lie outside, and fewer inside: they belong to
            another image, or to this one at another resolution; or most of the user's own hold many nuclei each.
    """
    instances, unsure = np.zeros(shape, np.int32), np.zeros(shape, bool)
    faults: Notices = defaultdict(list)
    covered: list[str] = []
    drawn: list[Outline] = []
    for number, outline in enumerate(outlines, start=1):
        box, mask = _pixels(outline, shape)
        fault = outline.fault or ('' if mask.any() else _why_nothing(outline, shape))
        if fault:
            faults[fault].append(outline.name)
        if fault or outline.ignored:
            unsure[box] |= mask
            continue
        drawn.append(outline)
        free = mask & (instances[box] == 0)
        is_covered = np.count_nonzero(free) < np.count_nonzero(mask) * (1 - COVERED_SHARE)
        if is_covered:
            covered.append(outline.name)
        if is_covered and own:
            unsure[box] |= free
        else:
            instances[box][free] = number
    _refuse_file_of_another_image(path, faults, len(drawn), len(outlines), shape)
    notices = {f'outlines left out, {fault}': names for fault, names in faults.items()}
    if covered:
        notices[COVERED_OWN if own else COVERED] = covered
    scattered = _in_many_parts(path, drawn, shape) if own else []
    if scattered:
        notices[SCATTERED] = scattered
    return Drawing(instances, unsure & (instances == 0), notices)


def _in_many_parts(path: Path, drawn: Sequence[Outline], shape: tuple[int, int]) -> list[str]:
    """Names of outlines that lie in more parts than a nucleus that others cut, with the number of these parts."""
    found = []
    for outline in drawn:
        if outline.mask is not None or len(outline.area) > MOST_PIECES_OF_ONE_NUCLEUS:
            _, parts = connected_components(_pixels(outline, shape)[1], return_num=True)
            if parts > MOST_PIECES_OF_ONE_NUCLEUS:
                found.append(f'{outline.name} ({parts} parts)')
    if len(found) > len(drawn) / 2:
        what = f'{len(found)} of {len(drawn)} outlines lie in many parts, each of which seems a nucleus: '
        raise BadFileError(path, what + shortened(found), SPLIT_THEM)
    return found


def _refuse_file_of_another_image(path: Path, faults: Notices, drawn: int, total: int, shape: tuple[int, int]) -> None:
    size = f'an image of {shape[0]} x {shape[1]} pixels (height x width)'
    outside = len(faults.get(OUTSIDE, ()))
    if outside >= FAR_TOO_MANY and outside > drawn:
        what = f'{outside} of {total} outlines lie outside of {size}'
        raise BadFileError(path, what, 'export image and outlines at one resolution, with x and y of this image')
    if total and sum(map(len, faults.values())) == total:
        reasons = '; '.join(f'{shortened(names)}: {fault}' for fault, names in faults.items())
        what = f'no outline can be drawn on {size}: {reasons}'
        raise BadFileError(path, what, 'mend them, or export those of this image, in pixels')


def cover(outlines: Iterable[Outline], shape: tuple[int, int]) -> Mask:
    """The area of outlines together."""
    together = np.zeros(shape, bool)
    for outline in outlines:
        box, mask = _pixels(outline, shape)
        together[box] |= mask
    return together


def mark_crossings(outlines: Iterable[Outline], shape: tuple[int, int]) -> list[Outline]:
    """The outlines, with a fault where one crosses itself so that its inside is unknown.

    An outline is valid if it runs once around nearly all of its inside: a slip where it closes leaves a small loop.
    """
    return [
        replace(outline, fault=CROSSING) if not outline.fault and _crosses(outline, shape) else outline
        for outline in outlines
    ]


def ring_of(points: Any) -> tuple[Ring | None, str]:
    """Points, pairs of any JSON, as a ring; or why they are not one."""
    try:
        ring = np.array(points)
    except (TypeError, ValueError, OverflowError):
        return None, NO_POINTS
    if ring.size == 0:
        return None, NOTHING
    # Numbers of more than 64 bits, texts and nulls leave other types.
    if ring.dtype.kind not in 'iuf' or ring.ndim != 2 or ring.shape[1] < 2:
        return None, NO_POINTS
    ring = ring[:, :2].astype(float)
    if not in_range(ring):
        return None, NOT_FINITE
    return (None, NOTHING) if len({*map(tuple, ring.tolist())}) < 3 else (ring, '')


def joined(*notices: Mapping[str, Sequence[str]]) -> Notices:
    """Notices of several parts of a file."""
    together: Notices = defaultdict(list)
    for part in notices:
        for what, names in part.items():
            together[what] += names
    return dict(together)


def square_pixels(outline: Outline) -> float:
    """Area of an outline, holes not counted."""
    return sum(_area(outer) for outer, *_ in outline.area)


def _area(ring: Ring) -> float:
    x, y = (ring - ring[0]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _why_nothing(outline: Outline, shape: tuple[int, int]) -> str:
    if not outline.area:
        return NOTHING
    points = np.concatenate([outer for outer, *_ in outline.area])
    outside = (points.max(axis=0) <= 0).any() or (points.min(axis=0) >= shape[::-1]).any()
    return OUTSIDE if outside else TINY


def _pixels(outline: Outline, shape: tuple[int, int]) -> tuple[Box, Mask]:
    if outline.mask is not None:
        return outline.mask
    # Of one that crosses itself, everything that it encloses is unsure.
    parts = [_part(part, shape, even_odd=outline.fault != CROSSING) for part in outline.area]
    if len(parts) == 1:
        return parts[0]
    parts = [(box, mask) for box, mask in parts if mask.size]
    if not parts:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    corners = [(rows.start, rows.stop, columns.start, columns.stop) for (rows, columns), _ in parts]
    top, bottom, left, right = (
        pick(side) for pick, side in zip((min, max, min, max), zip(*corners, strict=True), strict=True)
    )
    together = np.zeros((bottom - top, right - left), bool)
    for (rows, columns), mask in parts:
        together[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= mask
    return (slice(top, bottom), slice(left, right)), together


def _part(part: Sequence[Ring], shape: tuple[int, int], even_odd: bool) -> tuple[Box, Mask]:
    # Here corners of pixels have whole coordinates, for `fill` their centres have.
    outer, *holes = (ring - 0.5 for ring in part)
    box, mask = fill(outer, shape, even_odd)
    corner = np.array([box[1].start, box[0].start])
    for hole in holes:
        place, hollow = fill(hole - corner, mask.shape)
        mask[place] &= ~hollow
    return box, mask


def _crosses(outline: Outline, shape: tuple[int, int]) -> bool:
    for outer, *_ in outline.area:
        low = np.clip(np.floor(outer.min(axis=0)), 0, shape[::-1])
        width, height = (np.clip(np.ceil(outer.max(axis=0)), 0, shape[::-1]) - low).astype(int).tolist()
        turns = winding(outer - 0.5 - low, (height, width))
        once = max(np.count_nonzero(turns == 1), np.count_nonzero(turns == -1))
        if once < (1 - CROSSING_SHARE) * np.count_nonzero(turns):
            return True
    return False
