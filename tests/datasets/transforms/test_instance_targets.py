import numpy as np
import pytest
from scipy.spatial.distance import cdist
from skimage.segmentation import find_boundaries

from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.datasets.transforms.instance_targets import BoundaryTarget, DistanceTarget, HoverTarget
from mmgfnuc.registry import TRANSFORMS

PIECES = np.array(
    [
        [7, 7, 0, 0, 0, 0],
        [7, 7, 9, 9, 9, 0],
        [0, 0, 9, 9, 9, 0],
        [0, 0, 9, 9, 9, 7],
        [3, 0, 0, 0, 0, 7],
    ]
)


def scattered(seed):
    """A tile of nuclei with large ids that have gaps, one of them in two pieces; many touch, some are cut."""
    labels = render_tile(np.random.default_rng(seed), 64)[1].astype(np.int64)
    names = np.random.default_rng(seed).permutation(labels.max() + 1) * 9973 + 2**30
    names[0] = 0
    labels = names[labels].astype(np.int32)
    present = np.unique(labels)[1:]
    labels[labels == present[0]] = present[1]
    return labels


MAPS = [PIECES, *(scattered(seed) for seed in (1, 2, 3)), np.array([[4]]), np.array([[4, 4, 0]]), np.array([[4, 9]])]


@pytest.mark.parametrize('labels', MAPS)
def test_distance_is_that_to_the_nearest_pixel_of_anything_else(labels):
    found = DistanceTarget('gt')({'instance_map': labels})['gt']
    expected = np.zeros(labels.shape)
    for name in np.unique(labels[labels > 0]):
        inside = labels == name
        if inside.all():
            expected[inside] = 1
            continue
        depth = cdist(np.argwhere(inside), np.argwhere(~inside)).min(1)
        expected[inside] = depth / depth.max()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('labels', MAPS)
def test_hover_runs_from_one_side_over_the_centre_of_mass_to_the_other(labels):
    found = HoverTarget('gt')({'instance_map': labels})['gt']
    expected = np.zeros((2, *labels.shape))
    for name in np.unique(labels[labels > 0]):
        places = np.argwhere(labels == name)
        for channel, axis in ((0, 1), (1, 0)):
            offsets = places[:, axis] - places[:, axis].mean()
            for (row, column), offset in zip(places, offsets, strict=True):
                reach = -offsets.min() if offset < 0 else offsets.max()
                expected[channel, row, column] = offset / reach if reach else 0
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_hover_of_a_nucleus_worked_out_by_hand():
    """Three pixels below one another and one to the right: centre of mass at column 1/4 and row 1 (5/4 from below)."""
    labels = np.array([[5, 0, 0], [5, 5, 0], [5, 0, 0]])
    horizontal, vertical = HoverTarget.target(labels)
    np.testing.assert_array_equal(horizontal, [[-1, 0, 0], [-1, 1, 0], [-1, 0, 0]])
    np.testing.assert_array_equal(vertical, [[-1, 0, 0], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize('labels', MAPS)
def test_boundary_is_the_inner_boundary_of_scikit_image(labels):
    found = BoundaryTarget('gt')({'instance_map': labels})['gt']
    boundary = find_boundaries(labels, connectivity=1, mode='inner')
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.where(labels > 0, 1 + boundary, 0))


@pytest.mark.parametrize('kind', ['DistanceTarget', 'HoverTarget', 'BoundaryTarget'])
@pytest.mark.parametrize('shape', [(8, 5), (1, 1)])
def test_without_nuclei_all_is_zero(kind, shape):
    transform = TRANSFORMS.build(dict(type=kind, key='gt'))
    results = transform({'instance_map': np.zeros(shape, np.int32)})
    assert results['gt'].shape[-2:] == shape
    assert not results['gt'].any()


def test_the_instance_map_stays_as_it_is():
    labels = scattered(1)
    results = {'instance_map': labels.copy()}
    for transform in (DistanceTarget('distance'), HoverTarget('hover'), BoundaryTarget('boundary')):
        results = transform(results)
    np.testing.assert_array_equal(results['instance_map'], labels)
    assert set(results) == {'instance_map', 'distance', 'hover', 'boundary'}


@pytest.mark.parametrize('transform', [DistanceTarget, HoverTarget, BoundaryTarget])
def test_every_bit_is_the_same_each_time(transform):
    """Wherever in memory the arrays happen to lie."""
    labels, sizes = render_tile(np.random.default_rng(0), 64)[1], np.random.default_rng(0).integers(1, 200_000, 100)
    expected, kept = transform.target(labels), []
    for size in sizes:
        kept.append(np.empty(size, np.uint8))
        np.testing.assert_array_equal(transform.target(labels), expected)
