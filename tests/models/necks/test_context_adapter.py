import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.models.layers import MaxBlurPool
from mmgfnuc.models.necks import ContextAdapter


def test_sam_embedding_reaches_the_bottleneck_by_two_max_blur_pools():
    feature = torch.randn(1, 3, 64, 64)
    halve = MaxBlurPool()
    torch.testing.assert_close(ContextAdapter()([feature], (16, 16)), halve(halve(feature)), rtol=0, atol=0)


@pytest.mark.parametrize(('grid', 'size'), [((14, 14), (16, 16)), ((5, 9), (12, 9)), ((20, 40), (12, 20))])
def test_other_grids_are_bilinear(grid, size):
    feature = torch.randn(2, 3, *grid)
    expected = F.interpolate(feature, size, mode='bilinear', align_corners=False)
    torch.testing.assert_close(ContextAdapter()([feature], size), expected)


def test_what_remains_after_halving_is_bilinear():
    feature = torch.randn(1, 2, 50, 48)
    halved = MaxBlurPool()(feature)
    expected = F.interpolate(halved, (16, 16), mode='bilinear', align_corners=False)
    torch.testing.assert_close(ContextAdapter()([feature], (16, 16)), expected)


def test_same_grid_passes():
    feature = torch.randn(1, 2, 6, 8)
    assert torch.equal(ContextAdapter()([feature], (6, 8)), feature)


def test_features_of_different_grids_are_joined_in_order():
    coarse, fine = torch.full((1, 2, 3, 3), 1.0), torch.full((1, 4, 32, 32), 2.0)
    joined = ContextAdapter()([coarse, fine], (8, 8))
    assert joined.shape == (1, 6, 8, 8)
    assert joined.mean((0, 2, 3)).tolist() == [1, 1, 2, 2, 2, 2]
