import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import BlurPool, MaxBlurPool

WEIGHTS = (1, 2, 1)


def brute_force_blur(image):
    """[1 2 1] outer [1 2 1] / 16 at every pixel, the nearest pixel standing in outside the border."""
    height, width = len(image), len(image[0])
    return [
        [
            sum(
                WEIGHTS[i + 1] * WEIGHTS[j + 1] * image[min(max(y + i, 0), height - 1)][min(max(x + j, 0), width - 1)]
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            )
            / 16
            for x in range(width)
        ]
        for y in range(height)
    ]


@pytest.mark.parametrize('size', [(5, 7), (4, 4), (1, 3), (1, 1)])
def test_blur_equals_its_definition(size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = torch.tensor([[brute_force_blur(channel.tolist()) for channel in image] for image in x])
    torch.testing.assert_close(BlurPool()(x), expected.double())


@pytest.mark.parametrize('size', [(5, 7), (4, 4), (1, 3), (1, 1)])
def test_zeros_beyond_the_border(size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=torch.float64) / 16
    for border, pool in ((x, BlurPool('zeros')), (F.max_pool2d(x, 2, ceil_mode=True), MaxBlurPool('zeros'))):
        expected = F.conv2d(border.flatten(0, 1)[:, None], kernel[None, None], padding=1).unflatten(0, (2, 3))[:, :, 0]
        torch.testing.assert_close(pool(x), expected)


def test_unknown_border():
    with pytest.raises(UserError, match="'reflect' is unknown; choose one of replicate, zeros"):
        MaxBlurPool('reflect')


@pytest.mark.parametrize(('size', 'halved'), [((8, 6), (4, 3)), ((7, 9), (4, 5)), ((1, 5), (1, 3))])
def test_max_blur_pool_at_even_and_odd_sizes(size, halved):
    x = torch.rand(1, 2, *size)
    # A row or column beyond the border that never is the maximum gives the half window at an odd border.
    padded = F.pad(x, (0, size[1] % 2, 0, size[0] % 2), value=-torch.inf)
    windows = padded.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    assert windows.shape[-2:] == halved
    torch.testing.assert_close(MaxBlurPool()(x), BlurPool()(windows))


def test_nothing_is_saved_or_learned():
    assert not MaxBlurPool().state_dict()
    assert not list(MaxBlurPool().parameters())


def test_half_precision_in_and_out():
    assert BlurPool()(torch.rand(1, 1, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
