import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.models.necks import AddFusionBlock, ConcatFusionBlock

from ..tiny import fill_with_noise
from .battery import CHANNELS, CONTEXT_CHANNELS, FusionBlockBattery, count

BLOCKS = {'concat': ConcatFusionBlock, 'add': AddFusionBlock}


class TestSimpleBlocks(FusionBlockBattery):
    @pytest.fixture(params=sorted(BLOCKS))
    def settings(self, request):
        return request.param

    def build(self, settings):
        return BLOCKS[settings](CHANNELS, CONTEXT_CHANNELS)


def projected(block, context):
    """The 1x1 convolution as a matrix product of every pixel."""
    weight, bias = block.project.weight[:, :, 0, 0], block.project.bias
    return torch.einsum('cd,bdhw->bchw', weight, context) + bias[:, None, None]


@torch.no_grad()
def test_add():
    block = fill_with_noise(AddFusionBlock(4, 3), 1.0)
    local, context = torch.randn(2, 4, 5, 6), torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(block(local, context), local + projected(block, context))
    assert count(block) == 4 * 3 + 4


@torch.no_grad()
def test_concat():
    """3x3 convolution of (local, projected context) without bias, batch norm, ReLU."""
    block = fill_with_noise(ConcatFusionBlock(4, 3), 1.0).train()
    local, context = torch.randn(2, 4, 5, 6), torch.randn(2, 3, 5, 6)
    kernel, scale, shift = block.convolve.parameters()
    assert (kernel.shape, scale.shape, shift.shape) == ((4, 8, 3, 3), (4,), (4,))
    convolved = F.conv2d(torch.cat([local, projected(block, context)], 1), kernel, padding=1)
    standard = (convolved - convolved.mean((0, 2, 3), keepdim=True)) / (
        convolved.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
    ).sqrt()
    expected = (standard * scale[:, None, None] + shift[:, None, None]).clamp(min=0)
    torch.testing.assert_close(block(local, context), expected, rtol=1e-4, atol=1e-5)
    assert count(block) == (4 * 3 + 4) + 9 * 8 * 4 + 2 * 4


@pytest.mark.parametrize('name', sorted(BLOCKS))
@torch.no_grad()
def test_the_context_of_a_place_reaches_that_place(name):
    block = fill_with_noise(BLOCKS[name](4, 3), 1.0).eval()
    local, context = torch.rand(1, 4, 7, 7), torch.randn(1, 3, 7, 7)
    changed = context.clone()
    changed[:, :, 3, 3] += 1
    moved = (block(local, changed) != block(local, context)).any(1)[0].nonzero().tolist()
    assert [3, 3] in moved
    reach = 1 if name == 'concat' else 0
    assert all(max(abs(row - 3), abs(column - 3)) <= reach for row, column in moved)
