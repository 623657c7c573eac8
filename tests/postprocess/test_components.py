import numpy as np
import pytest
from skimage.measure import label

from mmgfnuc.postprocess import connected_components


def test_pixels_that_meet_at_a_corner_belong_together():
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
    assert connected_components(mask).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [2, 0, 3]]


@pytest.mark.parametrize('density', [0.2, 0.4, 0.6])
def test_same_regions_as_scikit_image(density):
    mask = np.random.default_rng(0).random((80, 70)) < density
    found, expected = connected_components(mask), label(mask, connectivity=2)
    assert found.dtype == np.int32
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    # One id of ours for each of theirs, background for background.
    assert pairs.shape[1] == expected.max() + 1 == found.max() + 1
    assert pairs[:, 0].tolist() == [0, 0]


def test_empty_full_and_strided_masks():
    assert not connected_components(np.zeros((3, 4), bool)).any()
    assert (connected_components(np.ones((3, 4), bool)) == 1).all()
    strided = np.eye(8, dtype=bool)[::2, ::2]
    assert connected_components(strided).tolist() == np.eye(4, dtype=int).tolist()
