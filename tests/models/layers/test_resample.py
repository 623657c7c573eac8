"""Images and maps are resized by OpenCV as PyTorch does."""

import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.models.layers import resample
from mmgfnuc.models.segmentors.fusion_segmentor import _resize_maps


@pytest.mark.parametrize(
    ('size', 'by_area'), [((48, 20), True), ((37, 25), True), ((48, 20), False), ((201, 90), False), ((31, 77), False)]
)
def test_resample_is_that_of_pytorch(size, by_area):
    x = torch.rand(2, 3, 96, 40, generator=torch.Generator().manual_seed(0))
    for values in (x, x.contiguous(memory_format=torch.channels_last)):
        # Positions between pixels are rounded, too.
        expected = F.interpolate(values, size, mode='area' if by_area else 'bilinear')
        torch.testing.assert_close(resample(values, size, by_area), expected, rtol=0, atol=1e-5)


def test_resample_keeps_gradients():
    x = torch.rand(1, 2, 8, 8, requires_grad=True)
    resample(x, (16, 16)).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 4))


@pytest.mark.parametrize('classes', [2, 3])
def test_maps_are_resized_as_logits(classes):
    logits = 8 * torch.randn(2, classes, 12, 9, generator=torch.Generator().manual_seed(0))
    auxiliary = torch.rand(2, 2, 12, 9)
    found = _resize_maps(torch.cat([logits.softmax(1), auxiliary], dim=1), classes, (24, 30))
    expected = F.interpolate(logits.log_softmax(1), (24, 30), mode='bilinear').softmax(1)
    torch.testing.assert_close(found[:, :classes], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, classes:], F.interpolate(auxiliary, (24, 30), mode='bilinear'))
