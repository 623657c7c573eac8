"""Size, shape and staining of each predicted nucleus; docs/prediction.md has the formulas.

Source: shape by scikit-image's regionprops.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops_table

LENGTHS = ('x', 'y', 'perimeter', 'major_axis', 'minor_axis')
MEASURES = (
    *('x_px', 'y_px', 'area_px', 'perimeter_px', 'major_axis_px', 'minor_axis_px'),
    *('eccentricity', 'optical_density', 'confidence'),
    *('x_um', 'y_um', 'area_um2', 'perimeter_um', 'major_axis_um', 'minor_axis_um'),
)
# log10(I0 / I) of the values 0 to 255 with I0 = 255; 0 counts as 1, black has no finite density.
DENSITY = np.log10(255 / np.maximum(np.arange(256), 1))

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
    rows, columns = np.nonzero(labels)
    members = labels[rows, columns]
    counts = np.bincount(members)
    numbers = np.flatnonzero(counts)
    areas = counts[numbers]

    def mean(values: NDArray) -> NDArray[np.float64]:
        return np.bincount(members, values)[numbers] / areas

    shape = regionprops_table(
        labels, properties=('perimeter', 'axis_major_length', 'axis_minor_length', 'eccentricity')
    )
    found = {
        'nucleus': numbers,
        'x_px': mean(columns),
        'y_px': mean(rows),
        'area_px': areas,
        'perimeter_px': shape['perimeter'],
        'major_axis_px': shape['axis_major_length'],
        'minor_axis_px': shape['axis_minor_length'],
        'eccentricity': shape['eccentricity'],
        'optical_density': mean(DENSITY[image[rows, columns]].mean(1)),
        'confidence': mean(foreground[rows, columns]),
    }
    if mpp is not None:
        found['area_um2'] = areas * mpp**2
        found |= {f'{length}_um': found[f'{length}_px'] * mpp for length in LENGTHS}
    return found
