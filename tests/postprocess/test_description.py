import numpy as np
import pytest
from skimage.draw import polygon2mask
from skimage.measure import regionprops

from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.evaluation.functional import nucleus_types
from mmgfnuc.postprocess import describe_instances

LABELS = render_tile(np.random.default_rng(0))[1] * 3


def test_same_measures_as_scikit_image():
    foreground = np.random.default_rng(0).random(LABELS.shape)
    nuclei = describe_instances(LABELS, foreground)
    expected = regionprops(LABELS, foreground)
    assert nuclei.ids.tolist() == [region.label for region in expected]
    assert nuclei.areas.tolist() == [region.area for region in expected]
    np.testing.assert_allclose(nuclei.centroids[:, ::-1], [region.centroid for region in expected])
    np.testing.assert_array_equal(nuclei.boxes[:, [1, 0, 3, 2]], [region.bbox for region in expected])
    np.testing.assert_allclose(nuclei.confidence, [region.mean_intensity for region in expected])
    assert nuclei.types is None


def test_contours_enclose_their_nuclei():
    nuclei = describe_instances(LABELS)
    for name, contour in zip(nuclei.ids, nuclei.contours, strict=True):
        inside = polygon2mask(LABELS.shape, contour[:, ::-1])
        inside[contour[:, 1], contour[:, 0]] = True
        np.testing.assert_array_equal(inside, name == LABELS)
    assert nuclei.confidence is None


def test_the_largest_piece_gives_the_contour():
    labels = np.zeros((9, 9), int)
    labels[1, 1] = labels[3:7, 4:8] = 5
    (contour,) = describe_instances(labels).contours
    assert contour.min(0).tolist() == [4, 3]
    assert contour.max(0).tolist() == [7, 6]


def test_the_type_is_that_of_most_pixels_and_never_background():
    labels = np.array([[1, 1, 1, 1, 1, 2, 2, 0, 4, 6]])
    types = np.array([[0, 0, 0, 3, 3, 2, 1, 3, 2, 0]], np.uint8)
    # Two of type 3, the others do not vote; a tie of 2 and 1; one of 2; none.
    assert describe_instances(labels, type_map=types).types.tolist() == [3, 1, 2, 0]


def test_types_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    types = rng.integers(0, 5, LABELS.shape)
    nuclei = describe_instances(LABELS, type_map=types)
    assert len(set(nuclei.types)) > 2
    np.testing.assert_array_equal(nuclei.types, nucleus_types(LABELS, types, nuclei.ids))


def test_nan_is_no_confidence():
    labels, foreground = np.array([[1, 1, 0]]), np.array([[0.8, np.nan, np.nan]])
    assert describe_instances(labels, foreground).confidence.tolist() == [0.4]


@pytest.mark.parametrize('shape', [(4, 5), (0, 3)])
def test_no_nuclei(shape):
    nuclei = describe_instances(np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape, np.uint8))
    assert nuclei.contours == []
    assert nuclei.centroids.shape == (0, 2)
    assert nuclei.boxes.shape == (0, 4)
    assert nuclei.ids.size == nuclei.areas.size == nuclei.confidence.size == nuclei.types.size == 0
