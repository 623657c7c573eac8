import torch
import torch.nn.functional as F

from mmgfnuc.models.necks import AddFusionBlock, ConcatFusionBlock
from mmgfnuc.testing import fill_with_noise

from .oracles import ExplainedBattery, count


class TestSimpleBlocks(ExplainedBattery):
    parts = [dict(type=ConcatFusionBlock), dict(type=AddFusionBlock)]


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
