import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample

from mmgfnuc.datasets.transforms import HoverTarget, PackNucleiInputs, RandomOrientation, semantic_map
from mmgfnuc.errors import UserError


@pytest.fixture
def results():
    return {
        'img': np.arange(18, dtype=np.uint8).reshape(2, 3, 3),
        'instance_map': np.array([[0, 7, 7], [70000, 0, 0]], np.int32),
        'ignore_map': np.array([[False, False, True], [False, False, True]]),
        'img_id': 'liver_1',
        'group': 'liver',
        'mpp': 0.25,
        'img_path': 'images/liver_1.png',
        'ori_shape': (20, 30),
        'rng': np.random.default_rng(0),
    }


def test_semantic_map(results):
    labels = semantic_map(results['instance_map'], results['ignore_map'])
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 1, 255], [1, 0, 255]]


def test_tensors(results):
    packed = PackNucleiInputs()(results)
    assert set(packed) == {'inputs', 'data_samples'}
    inputs, sample = packed['inputs'], packed['data_samples']
    assert (inputs.dtype, tuple(inputs.shape)) == (torch.uint8, (3, 2, 3))
    assert inputs.is_contiguous()
    assert inputs[0].tolist() == [[0, 3, 6], [9, 12, 15]]
    assert isinstance(sample, SegDataSample)
    assert sample.gt_sem_seg.data.dtype == torch.int64
    assert sample.gt_sem_seg.data.tolist() == [[[0, 1, 255], [1, 0, 255]]]
    assert sample.gt_instance_map.data.dtype == torch.int32
    assert sample.gt_instance_map.data.tolist() == [[[0, 7, 7], [70000, 0, 0]]]


def test_origin(results):
    sample = PackNucleiInputs()(results)['data_samples']
    assert sample.metainfo == {
        'img_id': 'liver_1',
        'group': 'liver',
        'mpp': 0.25,
        'img_path': 'images/liver_1.png',
        'ori_shape': (20, 30),
        'img_shape': (2, 3),
    }


def test_views_are_packed_as_they_look(results):
    for key in ('img', 'instance_map', 'ignore_map'):
        results[key] = results[key][::-1, ::-1]
    packed = PackNucleiInputs()(results)
    assert packed['inputs'][2].tolist() == [[17, 14, 11], [8, 5, 2]]
    assert packed['data_samples'].gt_instance_map.data.tolist() == [[[0, 0, 70000], [7, 7, 0]]]


def test_a_nucleus_of_unknown_type_is_ignored(results):
    """It is no background: only where types are told apart there is something unknown."""
    types = np.array([[0, 0, 3], [2, 0, 0]], np.uint8)
    assert semantic_map(results['instance_map'], results['ignore_map'], types).tolist() == [[0, 255, 255], [2, 0, 255]]


def test_targets_of_the_heads(results):
    hover = np.random.default_rng(0).random((2, 2, 3), np.float32)
    packed = PackNucleiInputs()(results | {'gt_hover_map': hover, 'gt_boundary_map': np.full((2, 3), 2, np.uint8)})
    sample = packed['data_samples']
    assert torch.equal(sample.gt_hover_map.data, torch.from_numpy(hover))
    assert sample.gt_boundary_map.data.tolist() == [[[2] * 3] * 2]


def test_a_target_made_too_early(results):
    """It would stay where it is when the image moves."""
    with pytest.raises(
        UserError, match='gt_hover_map is made before a change of place; put its transform right before'
    ):
        RandomOrientation()(HoverTarget('gt_hover_map')(results))


def test_a_target_made_too_late(results):
    with pytest.raises(UserError, match='HoverTarget finds no instance_map; put it right before PackNucleiInputs'):
        HoverTarget('gt_hover_map')(PackNucleiInputs()(results))
