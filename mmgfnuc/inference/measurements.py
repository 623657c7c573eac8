"""Size, shape and staining of each predicted nucleus; docs/prediction.md has the formulas.

The values are those of scikit-image's regionprops, for all nuclei at once: pixels are summed
run by run, where a run is a stretch of a row within one nucleus.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTHS = ('x', 'y', 'perimeter', 'major_axis', 'minor_axis')
MEASURES = (
    *('x_px', 'y_px', 'area_px', 'perimeter_px', 'major_axis_px', 'minor_axis_px'),
    *('eccentricity', 'optical_density', 'confidence'),
    *('x_um', 'y_um', 'area_um2', 'perimeter_um', 'major_axis_um', 'minor_axis_um'),
)
# log10(I0 / I) of the values 0 to 255 with I0 = 255; 0 counts as 1, black has no finite density.
DENSITY = np.log10(255 / np.maximum(np.arange(256), 1))
# Length of an outline at a pixel of it, by how many pixels of the outline lie beside it (0 to 4), and diagonally.
STEPS = np.zeros((5, 5))
STEPS[2:4, :3] = 1
STEPS[[0, 1], [2, 3]] = np.sqrt(2)
STEPS[1, 1:3] = (1 + np.sqrt(2)) / 2

Measures = dict[str, NDArray]


def measure_nuclei(
    labels: NDArray[np.integer], foreground: NDArray[np.floating], image: NDArray[np.uint8], mpp: float | None = None
) -> Measures:
    """Measure the nuclei of an image.

    Args:
        labels: the nuclei, numbers may have gaps; 0 = background.
        foreground: probability that a pixel belongs to a nucleus.
        image: RGB as it was given, before any stain normalisation.
        mpp: micrometres per pixel; None leaves the measures in micrometres (`_um`, `_um2`) out.

    Shape:
        labels (H, W), foreground (H, W), image (H, W, 3) -> an array (nuclei,), by number, for each of `nucleus`
        (number) and MEASURES

    Source: Ruifrok & Johnston 2001 (optical density).
    """
    runs = Runs.of(labels)
    colours = np.take(image.reshape(-1, 3), runs.pixels, axis=0)
    found = {
        'nucleus': runs.numbers,
        **_shape(runs, labels.shape[1]),
        'perimeter_px': _perimeters(labels)[runs.numbers],
        'optical_density': runs.mean(np.take(DENSITY, colours) @ np.full(3, 1 / 3)),
        'confidence': runs.mean(foreground.ravel()[runs.pixels]),
    }
    found = {name: found[name] for name in ('nucleus', *MEASURES) if name in found}
    if mpp is not None:
        found['area_um2'] = found['area_px'] * mpp**2
        found |= {f'{length}_um': found[f'{length}_px'] * mpp for length in LENGTHS}
    return found


@dataclass(frozen=True)
class Runs:
    """The pixels of the N nuclei of a label map, in R runs.

    Attributes:
        pixels: flat places, ascending; those of a run are neighbours in a row.
        starts: of each run, in `pixels`.
        lengths: of each run, in pixels.
        members: of each run, the place of its nucleus in `numbers`.
        numbers: of the nuclei, ascending.
        areas: of the nuclei, in pixels.

    Shape:
        pixels (P,); starts, lengths, members (R,); numbers, areas (N,)
    """

    pixels: NDArray[np.intp]
    starts: NDArray[np.intp]
    lengths: NDArray[np.intp]
    members: NDArray[np.intp]
    numbers: NDArray[np.intp]
    areas: NDArray[np.intp]

    @classmethod
    def of(cls, labels: NDArray[np.integer]) -> 'Runs':
        """Find the runs of a label map (H, W); 0 = background."""
        height, width = labels.shape
        pixels = np.flatnonzero(labels > 0)
        inside = labels.ravel()[pixels]
        first = np.ones(pixels.size + 1, bool)
        first[1:-1] = (np.diff(pixels) > 1) | (np.diff(inside) != 0)
        first[np.searchsorted(pixels, width * np.arange(height))] = True
        starts = np.flatnonzero(first[:-1])
        lengths = np.diff(starts, append=pixels.size)
        areas = np.bincount(inside)
        numbers = np.flatnonzero(areas)
        members = np.searchsorted(numbers, inside[starts])
        return cls(pixels, starts, lengths, members, numbers, areas[numbers])

    def sum(self, values: NDArray) -> NDArray[np.float64]:
        """Sum over each nucleus what is given for each run: (R,) -> (N,)."""
        # NumPy's types do not know that weights make sums of floats.
        total: NDArray[Any] = np.bincount(self.members, values, minlength=self.numbers.size)
        return total

    def mean(self, values: NDArray) -> NDArray[np.float64]:
        """Mean over each nucleus of what is given for each pixel: (P,) -> (N,)."""
        of_runs = np.add.reduceat(values, self.starts, dtype=np.float64) if self.starts.size else values
        return self.sum(of_runs) / self.areas


def _shape(runs: Runs, width: int) -> Measures:
    """Centre, area, axes of the ellipse of equal second moments, and its eccentricity; `width` is that of the map.

    Source: second moments as in scikit-image's regionprops.
    """
    y, x = np.divmod(runs.pixels[runs.starts], width)
    # Places from the first run of the nucleus on: all sums are of whole numbers, and exact.
    origin = np.unique(runs.members, return_index=True)[1]
    left, top, length = x - x[origin][runs.members], y - y[origin][runs.members], runs.lengths
    before = length * (length - 1) // 2
    across = length * left + before
    squared = length * left**2 + 2 * left * before + before * (2 * length - 1) // 3
    sum_x, sum_y = runs.sum(across), runs.sum(length * top)

    def moment(products: NDArray, first: NDArray, second: NDArray) -> NDArray[np.float64]:
        return (runs.areas * runs.sum(products) - first * second) / runs.areas**2

    xx, yy = moment(squared, sum_x, sum_x), moment(length * top**2, sum_y, sum_y)
    centre, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, moment(across * top, sum_x, sum_y))
    major, minor = centre + spread, np.maximum(centre - spread, 0)
    return {
        'x_px': x[origin] + sum_x / runs.areas,
        'y_px': y[origin] + sum_y / runs.areas,
        'area_px': runs.areas,
        'major_axis_px': 4 * np.sqrt(major),
        'minor_axis_px': 4 * np.sqrt(minor),
        'eccentricity': np.sqrt(2 * spread / np.where(major > 0, major, 1)),
    }


def _perimeters(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Length of the outline of each nucleus, by number: each pixel of it counts by how many of its neighbours are.

    Shape:
        (H, W) -> (largest number + 1,)

    Source: Benkrid & Crookes, "Design and FPGA implementation of a perimeter estimator", as in scikit-image.
    """
    framed = np.pad(labels, 1)
    width, flat = framed.shape[1], framed.ravel()
    # The `outline` of each, from one comparison of neighbours along each axis.
    across, down = flat[1:] != flat[:-1], flat[width:] != flat[:-width]
    edge = flat > 0
    edge[width:-width] &= across[width - 1 : -width] | across[width : 1 - width] | down[:-width] | down[width:]
    pixels = np.flatnonzero(edge)
    members = flat[pixels]
    alike = [
        edge[pixels + step] & (flat[pixels + step] == members)
        for step in (-width, -1, 1, width, -width - 1, 1 - width, width - 1, width + 1)
    ]
    beside, diagonal = np.sum(alike[:4], axis=0), np.sum(alike[4:], axis=0)
    total: NDArray[Any] = np.bincount(members, STEPS[beside, diagonal], minlength=labels.max(initial=0) + 1)
    return total
