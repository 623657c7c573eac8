"""Size, shape and staining of each predicted nucleus; docs/prediction.md has the formulas.

Source: shape by scikit-image's regionprops.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops_table

from mmgfnuc.postprocess import describe_instances

from .inferencer import Prediction

LENGTHS = ('x', 'y', 'perimeter', 'major_axis', 'minor_axis')
MEASURES = (
    *('x_px', 'y_px', 'area_px', 'perimeter_px', 'major_axis_px', 'minor_axis_px'),
    *('eccentricity', 'optical_density', 'confidence'),
    *('x_um', 'y_um', 'area_um2', 'perimeter_um', 'major_axis_um', 'minor_axis_um'),
)
# log10(I0 / I) of the values 0 to 255 with I0 = 255; 0 counts as 1, black has no finite density.
DENSITY = np.log10(255 / np.maximum(np.arange(256), 1))

Measures = dict[str, NDArray]


def measure_nuclei(prediction: Prediction, image: NDArray[np.uint8], mpp: float | None = None) -> Measures:
    """Measure the nuclei of an image.

    Args:
        prediction: what a model says of the image.
        image: RGB as it was given, before any stain normalisation.
        mpp: micrometres per pixel; None leaves the measures in micrometres (`_um`, `_um2`) out.

    Shape:
        image (H, W, 3) -> for each of `nucleus` (id), `type` (0 = unknown) and MEASURES an array (nuclei,), by id
    """
    labels = prediction.labels
    nuclei = describe_instances(labels, prediction.foreground, prediction.semantic)
    shape = regionprops_table(
        labels, properties=('perimeter', 'axis_major_length', 'axis_minor_length', 'eccentricity')
    )
    found = {
        'nucleus': nuclei.ids,
        'type': nuclei.types,
        'x_px': nuclei.centroids[:, 0],
        'y_px': nuclei.centroids[:, 1],
        'area_px': nuclei.areas,
        'perimeter_px': shape['perimeter'],
        'major_axis_px': shape['axis_major_length'],
        'minor_axis_px': shape['axis_minor_length'],
        'eccentricity': shape['eccentricity'],
        'optical_density': _mean_density(image, labels, nuclei.ids),
        'confidence': nuclei.confidence,
    }
    if mpp is not None:
        found['area_um2'] = nuclei.areas * mpp**2
        found |= {f'{length}_um': found[f'{length}_px'] * mpp for length in LENGTHS}
    return found


def _mean_density(image: NDArray[np.uint8], labels: NDArray[np.int32], ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean optical density over the pixels of each nucleus and the three channels.

    Source: Ruifrok & Johnston 2001 (optical density).
    """
    inside = labels > 0
    members = labels[inside]
    density = DENSITY[image[inside]].mean(1)
    return (np.bincount(members, density) / np.maximum(np.bincount(members), 1))[ids]
