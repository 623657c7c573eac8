import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops

from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.inference.measurements import MEASURES, measure_nuclei


def test_a_rectangle_by_hand():
    """2 rows by 6 columns, half of it black, half white."""
    labels = np.zeros((5, 9), int)
    labels[1:3, 2:8] = 1
    image = np.full((5, 9, 3), 255, np.uint8)
    image[:, :5] = 0
    found = measure_nuclei(labels, labels * 0.75, image, mpp=0.5)
    # Variance of the places of the pixels along a side of n: (n**2 - 1) / 12; an axis of the ellipse is 4 deviations.
    major, minor = (4 * math.sqrt((n**2 - 1) / 12) for n in (6, 2))
    expected = {
        'nucleus': 1,
        'x_px': 4.5,
        'y_px': 1.5,
        'area_px': 12,
        'perimeter_px': 2 * (5 + 1),
        'major_axis_px': major,
        'minor_axis_px': minor,
        'eccentricity': math.sqrt(1 - (minor / major) ** 2),
        'optical_density': math.log10(255) / 2,
        'confidence': 0.75,
        'x_um': 2.25,
        'y_um': 0.75,
        'area_um2': 3,
        'perimeter_um': 6,
        'major_axis_um': major / 2,
        'minor_axis_um': minor / 2,
    }
    assert found.keys() == expected.keys() == {'nucleus', *MEASURES}
    for name, value in expected.items():
        assert found[name] == pytest.approx([value]), name


def test_without_mpp_nothing_is_in_micrometres():
    found = measure_nuclei(np.array([[1]]), np.ones((1, 1)), np.zeros((1, 1, 3), np.uint8))
    assert [name for name in found if '_um' in name] == []


def test_every_nucleus_by_brute_force():
    image, labels = render_tile(np.random.default_rng(0))[:2]
    labels = labels * 2  # ids with gaps keep their lines apart
    found = measure_nuclei(labels, image[..., 0] / 255, image)
    regions = regionprops(labels)
    assert found['nucleus'].tolist() == [region.label for region in regions]
    np.testing.assert_allclose(found['perimeter_px'], [region.perimeter for region in regions])
    for index, region in enumerate(regions):
        pixels = image[labels == region.label]
        density = [-math.log10(max(int(value), 1) / 255) for value in pixels.ravel()]
        assert found['optical_density'][index] == pytest.approx(np.mean(density))
        assert found['confidence'][index] == pytest.approx(pixels[:, 0].mean() / 255, rel=1e-5)
        ys, xs = np.nonzero(labels == region.label)
        assert (found['x_px'][index], found['y_px'][index]) == pytest.approx((xs.mean(), ys.mean()))
        assert found['area_px'][index] == len(xs)


@settings(max_examples=100, deadline=None)
@given(arrays(np.int32, (6, 7), elements=st.integers(0, 4)))
def test_all_numbers_are_finite(labels):
    """Nuclei of one pixel, lines, and pieces too: JSON knows no NaN."""
    found = measure_nuclei(labels, np.ones((6, 7)), np.zeros((6, 7, 3), np.uint8), mpp=0.25)
    assert all(len(values) == np.unique(labels[labels > 0]).size for values in found.values())
    assert all(np.isfinite(values).all() for values in found.values())
