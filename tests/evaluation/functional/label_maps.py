"""Random pairs of label maps for hypothesis, and their nuclei as sets of pixels."""

import numpy as np
from hypothesis import strategies as st

IDS = (1, 2, 4, 300, 70_000, 2**31 - 1)
SIDE = 9


def draw_map(rng, num_nuclei):
    """Rectangles over each other: they touch, are nested, cut into pieces or hidden; their ids have gaps."""
    label_map = np.zeros((SIDE, SIDE), np.int64)
    for nucleus in rng.permutation(IDS)[:num_nuclei]:
        row, column = rng.integers(0, SIDE - 1, 2)
        height, width = rng.integers(1, 6, 2)
        label_map[row : row + height, column : column + width] = nucleus
    return label_map


def disturb(rng, label_map):
    """Moved by at most a pixel, some nuclei renamed, merged or gone, some pixels at random."""
    moved = np.roll(label_map, rng.integers(-1, 2, 2), axis=(0, 1))
    for nucleus in np.unique(moved[moved > 0]):
        if rng.random() < 0.5:
            moved[moved == nucleus] = rng.choice((0, *IDS))
    noise = rng.random(moved.shape) < 0.05
    return np.where(noise, rng.choice((0, *IDS), moved.shape), moved)


@st.composite
def label_map_pairs(draw):
    """Draw a prediction and a target; either may be empty, and they may be alike or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    target = draw_map(rng, draw(st.integers(0, len(IDS))))
    if draw(st.booleans()):
        return disturb(rng, target), target
    return draw_map(rng, draw(st.integers(0, len(IDS)))), target


@st.composite
def ignore_masks(draw):
    """Draw a rectangle, which may be empty or cover everything."""
    top, bottom, left, right = draw(st.lists(st.integers(0, SIDE), min_size=4, max_size=4))
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top:bottom, left:right] = True
    return mask


def nuclei(label_map):
    """Set of pixels of each nucleus, by id."""
    found = {}
    for pixel in np.ndindex(label_map.shape):
        if label_map[pixel]:
            found.setdefault(int(label_map[pixel]), set()).add(pixel)
    return dict(sorted(found.items()))


def iou(one, other):
    return len(one & other) / len(one | other)


def scored_nuclei(prediction, target, ignore):
    """Predicted and true nuclei that are scored, by the rules for ignored pixels."""
    ignored = {pixel for pixel in np.ndindex(ignore.shape) if ignore[pixel]}
    truth = {name: pixels - ignored for name, pixels in nuclei(target).items() if pixels - ignored}
    predicted = {}
    for name, pixels in nuclei(prediction).items():
        visible = pixels - ignored
        matched = any(visible and iou(visible, other) > 0.5 for other in truth.values())
        if visible and (matched or len(pixels & ignored) <= len(pixels) / 2):
            predicted[name] = visible
    return predicted, truth


def matchings(choices):
    """All ways to give each row one of its columns or none, no column twice: lists of (row, column)."""
    if not choices:
        yield []
        return
    (row, columns), *rest = choices
    for others in matchings(rest):
        yield others
        used = {column for _, column in others}
        yield from ([(row, column), *others] for column in columns if column not in used)
