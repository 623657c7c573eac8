import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmgfnuc.models.decode_heads import DualDecoderHead, HoverHead
from mmgfnuc.models.losses import DistanceLoss, HoverLoss
from mmgfnuc.models.losses.auxiliary_maps import rises
from mmgfnuc.testing import AuxiliaryLossBattery

CLASSES = torch.tensor([[[[0, 1, 1, 255]]]])


class TestDistance(AuxiliaryLossBattery):
    part = dict(type=DistanceLoss)
    target = DualDecoderHead.target


class TestHover(AuxiliaryLossBattery):
    part = dict(type=HoverLoss)
    target = HoverHead.target


def test_distance_by_hand():
    """Errors of 1/2, 1 and 0 count, that of the ignored pixel does not."""
    prediction, truth = torch.tensor([[[[0.5, 0.0, 0.3, 9.0]]]]), torch.tensor([[[[0.0, 1.0, 0.3, 0.0]]]])
    assert DistanceLoss(weight=1.0)(prediction, truth, CLASSES).item() == pytest.approx((0.25 + 1) / 3)
    assert DistanceLoss(weight=4.0)(prediction, truth, CLASSES).item() == pytest.approx((0.25 + 1) / 3 * 4)


def correlated(channel, axis):
    """The rise by its definition: offsets along the axis over squared distances, summed over 5x5 pixels."""
    total = np.zeros_like(channel)
    padded = np.pad(channel, 2, mode='edge')
    height, width = channel.shape
    for down in range(-2, 3):
        for right in range(-2, 3):
            if down or right:
                offset = (down, right)[axis]
                shifted = padded[2 + down : 2 + down + height, 2 + right : 2 + right + width]
                total += offset / (down**2 + right**2) * shifted
    return total


def test_rises_by_definition():
    hover = torch.randn(2, 2, 7, 9, dtype=torch.float64)
    found = rises(hover).numpy()
    for image, expected in zip(found, hover.numpy(), strict=True):
        np.testing.assert_allclose(image[0], correlated(expected[0], axis=1), atol=1e-6)
        np.testing.assert_allclose(image[1], correlated(expected[1], axis=0), atol=1e-6)


def test_rises_of_ramps():
    """A ramp of slope s rises by s times the sum of x^2 / (x^2 + y^2) over the 24 neighbours, half of them: 12."""
    columns = 0.1 * torch.arange(9.0).expand(1, 1, 9, 9)
    ramps = torch.cat([columns, columns.mT], dim=1)
    torch.testing.assert_close(rises(ramps)[..., 2:-2, 2:-2], torch.full((1, 2, 5, 5), 1.2))
    # The vertical map across, the horizontal map down: no rise.
    torch.testing.assert_close(rises(ramps.flip(1))[..., 2:-2, 2:-2], torch.zeros(1, 2, 5, 5))


def hover_batch():
    torch.manual_seed(0)
    classes = torch.randint(0, 2, (2, 1, 12, 10))
    classes[:, :, :3] = 255
    return torch.randn(2, 2, 12, 10), torch.randn(2, 2, 12, 10), classes


def test_hover_by_definition():
    prediction, truth, classes = hover_batch()
    valid, nuclei = (classes != 255).expand_as(truth), (classes == 1).expand_as(truth)
    error = (prediction - truth)[valid].square().mean()
    # What is ignored is taken as right.
    right = torch.where(valid, prediction, truth)
    rise = (rises(right) - rises(truth))[nuclei].square().mean()
    torch.testing.assert_close(HoverLoss(weight=1.0)(prediction, truth, classes), error + 2 * rise)
    torch.testing.assert_close(HoverLoss(0.5, 3.0)(prediction, truth, classes), 0.5 * (error + 3 * rise))


@pytest.mark.parametrize(('loss', 'channels'), [(DistanceLoss(), 1), (HoverLoss(), 2)])
def test_a_perfect_prediction_costs_nothing(loss, channels):
    truth = torch.randn(1, channels, 6, 6)
    assert loss(truth, truth, torch.ones(1, 1, 6, 6, dtype=torch.long)).item() == 0


@pytest.mark.parametrize(('loss', 'channels'), [(DistanceLoss(), 1), (HoverLoss(), 2)])
def test_descent_reaches_the_truth(loss, channels):
    """Gradients point to the map that a blurred random map is."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((1, channels, 16, 16)), (0, 0, 2, 2)).astype(np.float32)
    truth, prediction = torch.from_numpy(smooth), torch.zeros(1, channels, 16, 16, requires_grad=True)
    optimizer = torch.optim.Adam([prediction], lr=0.02)
    start = math.inf
    for step in range(200):
        optimizer.zero_grad()
        value = loss(prediction, truth, torch.ones(1, 1, 16, 16, dtype=torch.long))
        value.backward()
        optimizer.step()
        start = value.item() if step == 0 else start
    assert value.item() < 0.01 * start


@pytest.mark.parametrize('noise', [0.3, 0.01])
def test_autocast_keeps_small_errors(noise):
    """Late in training the maps are nearly right, and bfloat16 has three digits."""
    _, truth, classes = hover_batch()
    prediction = truth + noise * torch.randn_like(truth)
    with torch.autocast('cpu', torch.bfloat16):
        rounded = HoverLoss()(prediction, truth, classes)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(HoverLoss()(prediction, truth, classes).item(), rel=0.01)
