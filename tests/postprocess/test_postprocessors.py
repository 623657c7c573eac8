import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.datasets.synthetic import MPP, render_tile
from mmgfnuc.datasets.transforms.instance_targets import BOUNDARY, BoundaryTarget, DistanceTarget, HoverTarget
from mmgfnuc.postprocess import BoundaryInstances, DistanceInstances, HoverInstances, WatershedInstances

POSTPROCESSORS = {
    'semantic': WatershedInstances(),
    'distance': DistanceInstances(),
    'hover': HoverInstances(),
    'boundary': BoundaryInstances(),
}
TILES = [render_tile(np.random.default_rng(seed))[1] for seed in range(12)]
each_postprocessor = pytest.mark.parametrize('kind', POSTPROCESSORS)


def perfect(labels):
    """What each post-processor takes, as a head without any error would give it."""
    foreground = (labels > 0).astype(np.float32)
    classes = BoundaryTarget.target(labels)
    return {
        'semantic': (foreground,),
        'distance': (foreground, DistanceTarget.target(labels)),
        'hover': (foreground, HoverTarget.target(labels)),
        'boundary': (foreground, (classes == BOUNDARY).astype(np.float32)),
    }


def aji(truth, found):
    """Aggregated Jaccard Index by its definition (Kumar et al. 2017, algorithm 1)."""
    intersection, union, used = 0, 0, set()
    for name in np.unique(truth[truth > 0]):
        nucleus, scores = truth == name, {}
        for other in np.unique(found[nucleus]):
            if other:
                common, both = (nucleus & (found == other)).sum(), (nucleus | (found == other)).sum()
                scores[other] = (common / both, common, both)
        if scores:
            best = max(scores, key=lambda other: scores[other][0])
            intersection, union = intersection + scores[best][1], union + scores[best][2]
            used.add(best)
        else:
            union += nucleus.sum()
    return intersection / (
        union + sum((found == other).sum() for other in np.unique(found[found > 0]) if other not in used)
    )


def disc(shape, *centres, radius):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.any([(rows - row) ** 2 + (columns - column) ** 2 <= radius**2 for row, column in centres], axis=0)


@pytest.mark.parametrize('mpp', [None, MPP])
@pytest.mark.parametrize(
    ('kind', 'lowest'), [('semantic', 0.75), ('distance', 0.97), ('hover', 0.97), ('boundary', 0.97)]
)
def test_perfect_maps_give_the_nuclei_back(kind, lowest, mpp):
    scores = [aji(labels, POSTPROCESSORS[kind](*perfect(labels)[kind], mpp=mpp)) for labels in TILES]
    assert np.mean(scores) >= lowest


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif('MMGFNUC_DATA' not in os.environ, reason='needs real images: set MMGFNUC_DATA')
@pytest.mark.parametrize(
    ('kind', 'lowest'), [('semantic', 0.75), ('distance', 0.97), ('hover', 0.97), ('boundary', 0.97)]
)
def test_perfect_maps_of_real_nuclei_give_them_back(kind, lowest):
    paths = sorted((Path(os.environ['MMGFNUC_DATA']) / 'nuinsseg').glob('*/label masks modify/*.tif'))[::4]
    maps = [read_label_map(path) for path in paths]
    assert np.mean([aji(labels, POSTPROCESSORS[kind](*perfect(labels)[kind])) for labels in maps]) >= lowest


@each_postprocessor
def test_ids_are_contiguous_and_repeatable(kind):
    maps = perfect(TILES[0])[kind]
    copies = [channel.copy() for channel in maps]
    found = POSTPROCESSORS[kind](*maps)
    assert found.dtype == np.int32
    assert np.unique(found).tolist() == list(range(found.max() + 1))
    np.testing.assert_array_equal(found, POSTPROCESSORS[kind](*maps))
    for channel, copy in zip(maps, copies, strict=True):
        np.testing.assert_array_equal(channel, copy)


@each_postprocessor
@pytest.mark.parametrize('shape', [(12, 9), (1, 1), (0, 0), (0, 5)])
@pytest.mark.parametrize('value', [0.0, np.nan])
def test_nothing_is_found_in_nothing(kind, shape, value):
    shapes = {'semantic': [()], 'distance': [(), ()], 'hover': [(), (2,)], 'boundary': [(), ()]}
    found = POSTPROCESSORS[kind](*(np.full((*channels, *shape), value, np.float32) for channels in shapes[kind]))
    assert found.shape == shape
    assert found.dtype == np.int32
    assert not found.any()


@each_postprocessor
@pytest.mark.parametrize('shape', [(30, 20), (1, 1), (1, 40)])
def test_all_foreground_is_one_nucleus_unless_it_is_too_small(kind, shape):
    found = POSTPROCESSORS[kind](*perfect(np.ones(shape, int))[kind])
    assert (found == (np.prod(shape) >= 10)).all()


@each_postprocessor
def test_spots_of_nan_harm_nothing_else(kind):
    labels = np.zeros((60, 90), int)
    labels[disc(labels.shape, (20, 20), radius=9)] = 1
    labels[disc(labels.shape, (20, 38), radius=9)] = 2
    labels[disc(labels.shape, (20, 70), radius=9)] = 3
    maps = [channel.copy() for channel in perfect(labels)[kind]]
    for channel in maps:
        channel[..., 15:25, 65:75] = np.nan
    found = POSTPROCESSORS[kind](*maps)
    assert found.max() >= 3
    assert aji(labels[:, :55], found[:, :55]) > 0.97


@each_postprocessor
@pytest.mark.parametrize('dtype', [np.float64, np.float32, np.float16])
def test_every_float_and_layout_of_the_maps_will_do(kind, dtype):
    maps = perfect(TILES[1])[kind]
    strided = [np.asfortranarray(channel.astype(dtype)) for channel in maps]
    np.testing.assert_array_equal(POSTPROCESSORS[kind](*strided), POSTPROCESSORS[kind](*maps))


@pytest.mark.parametrize('kind', ['distance', 'hover', 'boundary'])
def test_a_nucleus_does_not_depend_on_what_else_the_image_shows(kind):
    labels = TILES[2]
    maps = perfect(labels)[kind]
    whole, part = (POSTPROCESSORS[kind](*(channel[..., :end, :] for channel in maps)) for end in (256, 128))
    # Away from the cut, both maps hold the same nuclei.
    same = np.isin(part, np.unique(part[100:]), invert=True)
    assert len({*zip(whole[:128][same], part[same], strict=True)}) == len(np.unique(part[same])) > 10


def test_sizes_are_in_micrometres_where_the_pixel_is_known_and_in_pixels_elsewhere():
    mask = np.zeros((40, 90))
    mask[2:6, 2:6] = 1  # 16 pixels
    mask[10:38, 10:38] = 1
    mask[20:25, 20:25] = 0  # a hole of 25 pixels
    mask[10:38, 50:80] = 1
    mask[20:30, 60] = 0  # a hole of 10 pixels
    kept_and_filled = {
        None: (True, False, True),
        0.5: (True, False, True),  # 10 and 20 pixels
        0.4: (True, True, True),  # 15.6 and 31 pixels
        0.25: (False, True, True),  # 40 and 80 pixels
        1.0: (True, False, False),  # 2.5 and 5 pixels
    }
    for mpp, expected in kept_and_filled.items():
        found = WatershedInstances()(mask, mpp) > 0
        assert (found[3, 3], found[22, 22], found[25, 60]) == expected, mpp
    strict = replace(WatershedInstances(), nucleus_pixels=17, hole_pixels=25)(mask) > 0
    assert (strict[3, 3], strict[22, 22], strict[25, 60]) == (False, True, True)


def test_what_reaches_the_edge_is_no_hole():
    mask = np.ones((20, 20))
    mask[0, 5] = mask[10, 10] = 0
    found = WatershedInstances()(mask)
    assert found[0, 5] == 0
    assert found[10, 10] > 0


def test_a_mask_is_divided_where_it_is_narrow():
    mask = disc((60, 100), (30, 30), (30, 50), radius=12)
    found = WatershedInstances()(mask.astype(float))
    assert found.max() == 2
    columns = np.arange(100)[None] + np.zeros((60, 1))
    assert columns[found == found[30, 30]].max() <= 40 <= columns[found == found[30, 50]].min()
    assert WatershedInstances(share=0.3)(mask.astype(float)).max() == 1


def test_a_nucleus_without_a_marker_is_kept():
    """A line two pixels wide has no inside."""
    labels = np.zeros((20, 40), int)
    labels[5:7, 5:35] = 1
    assert not (BoundaryTarget.target(labels) == 1).any()
    np.testing.assert_array_equal(BoundaryInstances()(*perfect(labels)['boundary']), labels)
