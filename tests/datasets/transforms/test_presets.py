"""The augmentation presets of configs/_base_/augmentations: what they do to any image and its maps."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from scipy.ndimage import maximum_filter, minimum_filter

from mmgfnuc.datasets.transforms import StainNormalize, semantic_map
from mmgfnuc.datasets.transforms.intensity import RandomColour
from mmgfnuc.registry import TRANSFORMS

FOLDER = Path(__file__).parents[3] / 'configs' / '_base_' / 'augmentations'
PRESETS = sorted(path.stem for path in FOLDER.glob('*.py'))
SIZE = 256
# Nuclei of this many pixels at least: they survive any scaling with some inner pixels.
BLOCK = 60
# The converters number from 1, but ids may be anything, such as those above 65,535 in TIFF files.
IDS = np.array([0, 0, 1, 2, 3, 7, 255, 256, 65_535, 65_536, 2**24 + 1, 2**31 - 1], np.int32)
CLASSES = 5

each_preset = pytest.mark.parametrize('preset', PRESETS)
quickly = settings(deadline=None, max_examples=12, derandomize=True, database=None)


def steps(preset, pipeline='train_pipeline'):
    if 'normalised' in preset:
        pytest.importorskip('torchstain')
    return [TRANSFORMS.build(step) for step in Config.fromfile(FOLDER / f'{preset}.py')[pipeline]]


@st.composite
def samples(draw):
    """A sample whose ids tell all: colour, type and ignored area of each instance follow from its id."""
    height, width = draw(st.integers(60, 700)), draw(st.integers(60, 700))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = (np.minimum(np.arange(side) // BLOCK, side // BLOCK - 1) for side in (height, width))
    numbers = rng.integers(len(IDS), size=(rows[-1] + 1, columns[-1] + 1))[np.ix_(rows, columns)]
    types = np.where(IDS > 0, rng.integers(1, CLASSES, len(IDS)), 0).astype(np.uint8)
    ignored = rng.random(len(IDS)) < 0.2
    ignored[IDS == 0] = False
    colours = rng.integers(30, 200, (len(IDS), 3)).astype(np.uint8)
    colours[IDS == 0] = 230
    key = dict(zip(IDS.tolist(), zip(types.tolist(), ignored.tolist(), colours, strict=True), strict=True))
    sample = {
        'img': colours[numbers],
        'instance_map': IDS[numbers],
        'ignore_map': ignored[numbers],
        'type_map': types[numbers],
        'mpp': draw(st.sampled_from([None, 0.5])),
        **{'img_id': 'tile', 'group': 'slide', 'img_path': 'tile.png', 'ori_shape': (height, width)},
    }
    return sample, key


def run(pipeline, sample, seed):
    results = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in sample.items()}
    results['rng'] = np.random.default_rng(seed)
    for step in pipeline:
        results = step(results)
    return results


@each_preset
@quickly
@given(drawn=samples(), seed=st.integers(0, 2**32 - 1))
def test_ids_types_and_ignored_areas_stay_together(preset, drawn, seed):
    sample, key = drawn
    *pipeline, pack = steps(preset)
    results = run(pipeline, sample, seed)
    instances = results['instance_map']
    assert set(np.unique(instances)) - {0} <= set(np.unique(sample['instance_map']))
    for instance in set(np.unique(instances)) - {0}:
        own_type, own_ignore, _ = key[int(instance)]
        assert set(np.unique(results['type_map'][instances == instance])) == {own_type}
        assert set(np.unique(results['ignore_map'][instances == instance])) == {own_ignore}
    assert (results['type_map'][instances == 0] == 0).all()

    labels = pack(results)['data_samples'].gt_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(labels == 255, results['ignore_map'])
    np.testing.assert_array_equal(labels[labels != 255], results['type_map'][labels != 255])


@each_preset
@quickly
@given(drawn=samples(), seed=st.integers(0, 2**32 - 1))
def test_image_and_instances_move_together(preset, drawn, seed):
    sample, key = drawn
    places = [step for step in steps(preset)[:-1] if not isinstance(step, (RandomColour, StainNormalize))]
    results = run(places, sample, seed)
    instances = results['instance_map']
    # Off the borders, those of the crop too, nothing is blended: a pixel of the source may fill three of the crop.
    lowest, highest = (extreme(instances, 13, mode='constant') for extreme in (minimum_filter, maximum_filter))
    inner = (instances > 0) & (lowest == highest)
    for instance in np.unique(instances[inner]):
        away = results['img'][inner & (instances == instance)] - key[int(instance)][2].astype(float)
        assert np.abs(away).max() <= 1
    assert inner.any() or not (sample['instance_map'] > 0).any() or min(sample['ori_shape']) < 8 * BLOCK


@each_preset
@quickly
@given(drawn=samples(), seed=st.integers(0, 2**32 - 1))
def test_colour_steps_leave_the_maps_alone(preset, drawn, seed):
    sample, _ = drawn
    *pipeline, _ = steps(preset)
    results = run([step for step in pipeline if isinstance(step, (RandomColour, StainNormalize))], sample, seed)
    for name in ('instance_map', 'ignore_map', 'type_map'):
        np.testing.assert_array_equal(results[name], sample[name])
    assert (results['img'].dtype, results['img'].shape) == (np.uint8, sample['img'].shape)


@each_preset
@quickly
@given(drawn=samples(), seed=st.integers(0, 2**32 - 1))
def test_contract_and_determinism(preset, drawn, seed):
    sample, _ = drawn
    pipeline = steps(preset)
    packed, again = (run(pipeline, sample, seed) for _ in range(2))
    truth = packed['data_samples']
    for tensor, shape, kind in (
        (packed['inputs'], (3, SIZE, SIZE), 'torch.uint8'),
        (truth.gt_sem_seg.data, (1, SIZE, SIZE), 'torch.int64'),
        (truth.gt_instance_map.data, (1, SIZE, SIZE), 'torch.int32'),
    ):
        assert (tuple(tensor.shape), str(tensor.dtype)) == (shape, kind)
    assert (truth.mpp is None) == (sample['mpp'] is None)
    assert packed['inputs'].equal(again['inputs'])
    assert truth.gt_sem_seg.data.equal(again['data_samples'].gt_sem_seg.data)
    assert truth.gt_instance_map.data.equal(again['data_samples'].gt_instance_map.data)


@each_preset
@quickly
@given(drawn=samples())
def test_nothing_is_moved_or_drawn_in_the_test_pipeline(preset, drawn):
    sample, _ = drawn
    truth = run(steps(preset, 'test_pipeline'), sample | {'rng': None}, 0)['data_samples']
    np.testing.assert_array_equal(truth.gt_instance_map.data[0], sample['instance_map'])
    wanted = semantic_map(sample['instance_map'], sample['ignore_map'], sample['type_map'])
    np.testing.assert_array_equal(truth.gt_sem_seg.data[0], wanted)


@each_preset
def test_every_draw_differs(preset):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    maps = {name: np.zeros((512, 512), kind) for name, kind in (('instance_map', np.int32), ('ignore_map', bool))}
    *pipeline, _ = steps(preset)
    images = [run(pipeline, {'img': image, **maps, 'mpp': None}, seed)['img'] for seed in range(6)]
    assert len({picture.tobytes() for picture in images}) == 6


def test_there_are_presets():
    assert {'paper', 'normalised', 'strong'} <= set(PRESETS)
