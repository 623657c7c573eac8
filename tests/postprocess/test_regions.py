import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed

from mmgfnuc.postprocess.regions import divide, drop_small, fill_holes, flood, label_regions


def blobs(seed, threshold=0.0, shape=(120, 90), sigma=3):
    """A smooth field, and where it is above a share of its deviation."""
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(shape), (0, 0), sigma)
    return field, field > threshold * field.std()


def same_regions(first, second):
    pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
    return pairs.shape[1] == first.max() + 1 == second.max() + 1 and pairs[:, 0].tolist() == [0, 0]


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('smooth', [True, False])
def test_flood_is_the_watershed_of_scikit_image(seed, smooth):
    """Heights are all different, so that there is one answer; the rough ones have many hollows without a marker."""
    field, mask = blobs(seed)
    rng = np.random.default_rng(seed)
    heights = field if smooth else rng.permutation(field.size).reshape(field.shape).astype(float)
    markers = np.zeros(mask.shape, np.int32)
    rows, columns = np.nonzero(mask)
    chosen = rng.choice(rows.size, 60, replace=False)
    markers[rows[chosen], columns[chosen]] = np.arange(1, 61)
    expected = watershed(heights, markers, mask=mask)
    wet = np.isin(label(mask, connectivity=1), np.unique(label(mask, connectivity=1)[markers > 0]))
    found = flood(heights, markers, mask & wet)
    assert np.unique(found[mask]).size > 50
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('seed', range(4))
def test_divide_is_the_watershed_and_keeps_what_has_no_marker(seed):
    field, mask = blobs(seed)
    markers = label_regions(mask & (field > 1.5 * field.std()))
    regions = label(mask, connectivity=1)
    marked = np.isin(regions, np.unique(regions[markers > 0]))
    expected = np.where(marked, watershed(-field, markers, mask=mask), regions + markers.max()) * mask
    found = divide(label_regions(mask), markers, -field)
    assert same_regions(drop_small(found, 1), drop_small(expected.astype(np.int32), 1))


@pytest.mark.parametrize('seed', range(4))
def test_all_holes_are_those_of_scipy_save_at_the_edge(seed):
    mask = blobs(seed, -0.8)[1]
    np.testing.assert_array_equal(fill_holes(mask, np.inf), ndimage.binary_fill_holes(mask))
    np.testing.assert_array_equal(fill_holes(mask, 0), mask)


@pytest.mark.parametrize('smallest', [0, 1, 9, 1000])
def test_small_regions_are_those_of_scikit_image(smallest):
    labels = label_regions(blobs(1, 1.0, sigma=2)[1])
    expected = remove_small_objects(labels, max_size=max(smallest - 1, 0))
    assert same_regions(drop_small(labels, smallest), label(expected > 0, connectivity=1))


def test_ids_without_pixels_leave_no_gap():
    labels = np.array([[0, 7, 7], [3, 0, 9]], np.int32)
    assert drop_small(labels, 0).tolist() == [[0, 2, 2], [1, 0, 3]]
    assert drop_small(labels, 2).tolist() == [[0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize('frame', [0, 1, 2])
def test_a_hole_that_is_the_first_background(frame):
    """Whether there is background around it, in its row or not at all."""
    mask = np.ones((20, 20), bool)
    mask[5:7, 5:7] = False
    mask[0, 10:] = frame != 1
    mask[-1] = frame != 2
    expected = mask.copy()
    expected[5:7, 5:7] = True
    np.testing.assert_array_equal(fill_holes(mask, 4), expected)
    np.testing.assert_array_equal(fill_holes(mask, 3), mask)


@pytest.mark.parametrize('gap', [2, 40])
def test_hollows_are_flooded_as_in_scikit_image(gap):
    """In many lines and in few, which are moved together; the rough heights above are flooded where they are."""
    mask = np.zeros((120, 120), bool)
    mask[1::gap] = True
    markers = np.zeros(mask.shape, np.int32)
    markers[1::gap, 0], markers[1::gap, -1] = 1, 2
    heights = np.random.default_rng(0).permutation(mask.size).reshape(mask.shape).astype(np.float32)
    np.testing.assert_array_equal(flood(heights, markers, mask), watershed(heights, markers, mask=mask))
