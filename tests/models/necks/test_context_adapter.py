import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.models.layers import MaxBlurPool
from mmgfnuc.models.necks import ContextAdapter


def adapt(features, size):
    """Features that cover the area of the grid."""
    return ContextAdapter()(features, size, [(size[0] / f.shape[-2], size[1] / f.shape[-1]) for f in features])


@pytest.mark.parametrize('border', ['replicate', 'zeros'])
def test_sam_embedding_reaches_the_bottleneck_by_two_max_blur_pools(border):
    feature = torch.randn(1, 3, 64, 64)
    halve = MaxBlurPool(border)
    adapted = ContextAdapter(border)([feature], (16, 16), [(0.25, 0.25)])
    torch.testing.assert_close(adapted, halve(halve(feature)), rtol=0, atol=0)
    assert torch.equal(adapted, adapt([feature], (16, 16))) == (border == 'replicate')


@pytest.mark.parametrize(('grid', 'size'), [((14, 14), (16, 16)), ((5, 9), (12, 9)), ((20, 40), (12, 20))])
def test_other_grids_are_bilinear(grid, size):
    feature = torch.randn(2, 3, *grid)
    expected = F.interpolate(feature, size, mode='bilinear', align_corners=False)
    torch.testing.assert_close(adapt([feature], size), expected)


def test_what_remains_after_halving_is_bilinear():
    feature = torch.randn(1, 2, 50, 48)
    halved = MaxBlurPool()(feature)
    expected = F.interpolate(halved, (16, 16), mode='bilinear', align_corners=False)
    torch.testing.assert_close(adapt([feature], (16, 16)), expected)


def test_same_grid_passes():
    feature = torch.randn(1, 2, 6, 8)
    assert torch.equal(adapt([feature], (6, 8)), feature)


def test_features_of_different_grids_are_joined_in_order():
    coarse, fine = torch.full((1, 2, 3, 3), 1.0), torch.full((1, 4, 32, 32), 2.0)
    joined = adapt([coarse, fine], (8, 8))
    assert joined.shape == (1, 6, 8, 8)
    assert joined.mean((0, 2, 3)).tolist() == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize('step', [1.75, 0.875, 1.0, 7 / 3])
def test_features_that_reach_beyond_the_grid_are_not_squeezed(step):
    """A ramp of one per grid pixel stays one; the grid is smaller than what the feature covers."""
    feature = ((torch.arange(12) + 0.5) * step)[None, None, :, None].expand(1, 2, 12, 12)
    size = int(12 * step) - 1
    rows = ContextAdapter()([feature], (size, size), [(step, step)])[0, 0, :, 0]
    expected = torch.arange(size) + 0.5
    inner = (expected > step / 2) & (expected < 11.5 * step)
    torch.testing.assert_close(rows[inner], expected[inner])


def test_a_feature_that_ends_a_little_early_is_continued():
    feature = torch.arange(4.0)[None, None, :, None].expand(1, 1, 4, 4)
    rows = ContextAdapter()([feature], (5, 5), [(1, 1)])[0, 0, :, 0]
    assert rows.tolist() == [0, 1, 2, 3, 3]
