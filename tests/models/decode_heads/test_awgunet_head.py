import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.timm_backbone import TimmBackbone
from mmgfnuc.models.decode_heads.awgunet_head import (
    AWGUNetHead,
    FilteredUpsampling,
    MultiKernelBlock,
    WaveletGuidedAttention,
    double,
    gaussian,
    lanczos,
)
from mmgfnuc.models.decode_heads.wavelet import haar_transform
from mmgfnuc.testing import DecodeHeadBattery, assert_gradients, data_samples, fill_with_noise, pyramid, total_loss


class TestContract(DecodeHeadBattery):
    part = dict(type=AWGUNetHead, width=4)


def number_of_parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


class TestPublishedSize:
    """The layer table that Keras printed in the authors' notebook `ISBI-TNBC.ipynb`."""

    def test_attention_on_the_deepest_level(self):
        table = 67_112_960 + 4_199_424 + 1_050_624 + 1_024 + 262_400 + 1_050_624 + 263_168
        with torch.device('meta'):
            assert number_of_parameters(WaveletGuidedAttention(1024)) == table

    def test_deepest_up_sampling(self):
        with torch.device('meta'):
            assert number_of_parameters(FilteredUpsampling(1024)) == 1_049_600 + 4_195_328

    def test_deepest_convolutions(self):
        table = 16_384_256 + 5_898_496 + 512 + 512 + 1_311_232 + 1_024 + 262_656 + 4_719_104 + 1_024
        biases_before_a_norm = 256 + 256 + 512 + 512
        with torch.device('meta'):
            assert number_of_parameters(MultiKernelBlock(2560, 512)) == table - biases_before_a_norm

    def test_whole_network(self):
        trainable = 146_321_652
        # The norm after the third dense block, which timm's features come before.
        trainable -= 2 * 1024
        # Biases before the four instance norms of each decoder level.
        trainable -= sum(3 * width for width in (64, 128, 256, 512))
        # Sixteen hidden units, with weights and biases, in the channel attention on the image, instead of a lone bias.
        trainable += (3 * 16 + 16 + 16 * 3 + 3) - 3
        # Two softmax channels instead of one sigmoid.
        trainable += 64 + 1
        with torch.device('meta'):
            backbone = TimmBackbone('densenet121', out_indices=(0, 1, 2, 3), image_level=True)
            head = AWGUNetHead(backbone.out_channels)
        assert backbone.out_channels == (3, 64, 256, 512, 1024)
        assert backbone.out_strides == (1, 2, 4, 8, 16)
        assert number_of_parameters(backbone, head) == trainable


class TestDoubling:
    x = torch.rand(2, 3, 9, 14)

    def test_with_a_triangle_it_is_bilinear_interpolation(self):
        doubled = double(self.x, lambda distance: (1 - distance.abs()).clamp(min=0))
        torch.testing.assert_close(doubled, F.interpolate(self.x, scale_factor=2, mode='bilinear'))

    def test_with_three_lobes_it_is_lanczos_of_pillow(self):
        doubled = double(self.x, lambda d: torch.sinc(d) * torch.sinc(d / 3) * (d.abs() < 3))
        image = Image.fromarray(self.x[0, 0].numpy()).resize((28, 18), Image.Resampling.LANCZOS)
        torch.testing.assert_close(doubled[0, 0], torch.from_numpy(np.array(image)), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize('kernel', [gaussian, lanczos])
    def test_keeps_constants_at_any_size(self, kernel):
        for size in [(1, 1), (2, 5), (30, 7)]:
            ones = torch.ones(1, 1, *size)
            torch.testing.assert_close(double(ones, kernel), torch.ones(1, 1, 2 * size[0], 2 * size[1]))

    def test_kernels(self):
        """Their formulas, at distances of output pixels from input pixels."""
        distances = np.array([0.25, 0.75, 1.25, 1.75, 4.75, 5.25])
        windowed = 5 * np.sin(np.pi * distances) * np.sin(np.pi * distances / 5) / (np.pi * distances) ** 2
        bell = np.exp(-2 * distances**2)
        windowed[distances > 5] = bell[distances > 1.5] = 0
        for kernel, expected in [(lanczos, windowed), (gaussian, bell)]:
            values = kernel(torch.tensor([*distances, *-distances]))
            torch.testing.assert_close(values, torch.tensor([*expected, *expected]))
            assert kernel(torch.zeros(1)) == 1


class TestAttention:
    def test_by_its_formula(self):
        module = fill_with_noise(WaveletGuidedAttention(3), scale=0.5).double()
        p = {name: value.detach().numpy() for name, value in module.named_parameters()}
        x = torch.randn(2, 3, 4, 6, dtype=torch.float64)

        def separable(name, values):
            scaled = values * p[f'{name}.0.weight'][:, 0]
            return (
                np.einsum('oi,bihw->bohw', p[f'{name}.1.weight'][..., 0, 0], scaled)
                + p[f'{name}.1.bias'][:, None, None]
            )

        def sigmoid(values):
            return 1 / (1 + np.exp(-values))

        # Each wavelet coefficient becomes a block of 2x2 pixels.
        up = np.einsum('iokl,bihw->bohkwl', p['up.weight'], haar_transform(x).numpy()).reshape(2, 12, 4, 6)
        edges = separable('project_wavelets', up + p['up.bias'][:, None, None])
        spatial = sigmoid(separable('score', edges + separable('project', x.numpy())))
        z = p['channel_weights'] * x.numpy().sum((2, 3)) / 24
        hidden = np.maximum(z @ p['channel_score.0.weight'].T + p['channel_score.0.bias'], 0)
        channel = sigmoid(hidden @ p['channel_score.2.weight'].T + p['channel_score.2.bias'])
        expected = x.numpy() * spatial * channel[..., None, None]
        torch.testing.assert_close(module(x), torch.from_numpy(expected))

    def test_does_not_depend_on_the_size_of_the_image(self):
        """A map beside a copy of itself."""
        module = fill_with_noise(WaveletGuidedAttention(4), scale=0.5)
        x = torch.randn(1, 4, 6, 8)
        torch.testing.assert_close(module(torch.cat([x, x], dim=3))[..., :8], module(x))


def test_kernels_of_the_convolutions():
    block = MultiKernelBlock(4, 7)
    shapes = {name: tuple(m.weight.shape) for name, m in block.named_modules() if isinstance(m, nn.Conv2d)}
    assert shapes == {
        'large.0': (3, 4, 5, 5),
        'medium.0': (4, 4, 3, 3),
        'mix': (7, 7, 1, 1),
        'small.0': (7, 4, 1, 1),
        'fuse.0': (7, 14, 3, 3),
    }


@pytest.mark.parametrize('in_channels', [1, 3, 4])
def test_on_a_small_densenet(in_channels):
    """The whole network at small width, from the image to the loss."""
    backbone = TimmBackbone(
        'densenet121',
        in_channels,
        out_indices=(0, 1, 2, 3),
        image_level=True,
        arch={'growth_rate': 4, 'block_config': (1, 1, 1, 1)},
    )
    head = AWGUNetHead(backbone.out_channels, width=4)
    losses = head.loss(backbone(torch.rand(2, in_channels, 70, 45)), data_samples(2, 70, 45))
    total_loss(losses).backward()
    assert_gradients(nn.ModuleList([backbone, head]))


def test_levels_that_do_not_halve():
    levels = pyramid(1, 32, 32)
    head = AWGUNetHead((4, 6, 10), width=4)
    with pytest.raises(
        UserError, match=r'halve in size from one to the next, not \[\(32, 32\), \(16, 16\), \(4, 4\)\]'
    ):
        head((levels[0], levels[1], levels[3]))
