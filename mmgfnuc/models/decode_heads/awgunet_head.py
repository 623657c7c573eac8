"""The decoder of AWGUNet: wavelet-guided attention on the skips, filtered up-sampling."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead
from .wavelet import haar_transform

REDUCTION = 4
# A quarter of the three channels of an image is none, of few features only units that a ReLU may switch off together.
MIN_HIDDEN = 16
GAUSSIAN_RADIUS = 1.5
LANCZOS_RADIUS = 5


def gaussian(distance: Tensor) -> Tensor:
    """Gaussian of sigma 0.5 pixels, cut off at three sigmas."""
    sigma = GAUSSIAN_RADIUS / 3
    return torch.exp(-distance.square() / (2 * sigma**2)) * (distance.abs() < GAUSSIAN_RADIUS)


def lanczos(distance: Tensor) -> Tensor:
    """Lanczos window of 5 pixels: sinc(d) sinc(d / 5), zero beyond."""
    return torch.sinc(distance) * torch.sinc(distance / LANCZOS_RADIUS) * (distance.abs() <= LANCZOS_RADIUS)


def doubling_matrix(size: int, kernel: Callable[[Tensor], Tensor], device: torch.device | None = None) -> Tensor:
    """Weights that interpolate a line of `size` pixels to twice as many.

    Output pixel i lies at (i + 1/2) / 2, input pixel j at j + 1/2; the weights `kernel(distance)` of an output pixel
    are divided by their sum, which at the ends of the line is over the pixels that there are.

    Shape:
        -> (2 size, size)

    Source: TensorFlow, `ScaleAndTranslate`, which the authors' release resizes with.
    """
    out_centers = (torch.arange(2 * size, device=device) + 0.5) / 2
    weights = kernel(out_centers[:, None] - (torch.arange(size, device=device) + 0.5))
    return weights / weights.sum(1, keepdim=True)


def double(x: Tensor, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Double the size of a map, rows and columns alike.

    Shape:
        (B, C, H, W) -> (B, C, 2H, 2W)
    """
    rows, columns = (doubling_matrix(size, kernel, x.device).to(x.dtype) for size in x.shape[-2:])
    return rows @ (x @ columns.T)


class SeparableConv(nn.Sequential):
    """1x1 depthwise, then 1x1 pointwise convolution.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, H, W)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1),
        )


class WaveletGuidedAttention(nn.Module):
    """WGCAM: a map times an attention per pixel and channel, guided by its wavelets, and one per channel.

    `x * sigmoid(conv(conv(up(haar(x))) + conv(x))) * sigmoid(W_2 ReLU(W_1 z))`: conv are separable, up is a 2x2
    transposed convolution of stride 2, and z = w_c mean(x_c) for channel c is the learnable weighted pooling.

    Shape:
        (B, C, H, W) -> (B, C, H, W)

    Source: see AWGUNetHead.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, MIN_HIDDEN)
        self.up = nn.ConvTranspose2d(4 * channels, 4 * channels, 2, stride=2)
        self.project_wavelets = SeparableConv(4 * channels, channels)
        self.project = SeparableConv(channels, channels)
        self.score = SeparableConv(channels, channels)
        self.channel_weights = nn.Parameter(torch.ones(channels))
        self.channel_score = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the map."""
        height, width = x.shape[-2:]
        edges = self.project_wavelets(self.up(haar_transform(x))[..., :height, :width])
        spatial = self.score(edges + self.project(x)).sigmoid()
        channel = self.channel_score(self.channel_weights * x.mean((2, 3))).sigmoid()
        return x * spatial * channel[:, :, None, None]


class FilteredUpsampling(nn.Module):
    """Doubles the size in two ways: a 1x1 convolution of Gaussian plus Lanczos interpolation; a 2x2 transposed one.

    Shape:
        (B, C, H, W) -> (B, 2C, 2H, 2W)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Up-sample."""
        return torch.cat([self.mix(double(x, gaussian) + double(x, lanczos)), self.up(x)], dim=1)


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Convolution, instance normalisation, ReLU; the convolution has no bias, which the norm would remove."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.InstanceNorm2d(out_channels, affine=True),
        nn.ReLU(inplace=True),
    )


class MultiKernelBlock(nn.Module):
    """Convolutions of size 5 and 3, mixed, beside one of size 1; then one of size 3 over all.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, H, W)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        large = out_channels // 2
        self.large = conv_norm_relu(in_channels, large, 5)
        self.medium = conv_norm_relu(in_channels, out_channels - large, 3)
        self.mix = nn.Conv2d(out_channels, out_channels, 1)
        self.small = conv_norm_relu(in_channels, out_channels, 1)
        self.fuse = conv_norm_relu(2 * out_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        mixed = self.mix(torch.cat([self.large(x), self.medium(x)], dim=1))
        return self.fuse(torch.cat([mixed, self.small(x)], dim=1))


class DecoderStep(nn.Module):
    """The deeper map up-sampled, cropped to the skip's size, joined with the skip and convolved.

    Shape:
        deep (B, deep_channels, h, w), skip (B, skip_channels, H, W), H <= 2h, W <= 2w -> (B, out_channels, H, W)
    """

    def __init__(self, deep_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = FilteredUpsampling(deep_channels)
        self.convs = MultiKernelBlock(2 * deep_channels + skip_channels, out_channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Decode one level."""
        height, width = skip.shape[-2:]
        return self.convs(torch.cat([self.up(deep)[..., :height, :width], skip], dim=1))


@MODELS.register_module()
class AWGUNetHead(PyramidDecodeHead):
    """AWGUNet decoder: wavelet-guided attention on every level, filtered up-sampling, kernels of several sizes.

    In AWGUNet the levels are the image itself, DenseNet-121's stem and its first three dense blocks:
    `TimmBackbone('densenet121', out_indices=(0, 1, 2, 3), image_level=True)`. Any pyramid whose strides double from
    level to level will do.

    Layers, kernel sizes and widths are those of the authors' release. Differences:

    - The release pools by the sum over the pixels, divided by the sum of the channel weights; here it is the mean over
      the pixels. That is a factor, which the next layer can undo at one image size; without it the attention does not
      depend on the size of the image, nor starts saturated at a large one.
    - The channel attention has at least 16 hidden units. (The release has none for the image, a quarter of three
      rounded down: there its attention is a constant.)
    - Convolutions before an instance norm have no bias.
    - timm's DenseNet gives its dense blocks before the norm and ReLU that follow, the release after them.
    - The image among the levels is normalised like the encoder's input; the release takes both in [0, 1].
    - At an odd size the wavelet transform repeats the last row or column, and what is doubled is cropped. (The
      release takes images of 512x512 pixels.)

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        width: channels of the decoder at level 0, doubled at each deeper one.
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i), H_i = ceil(H_0 / 2**i) -> (B, num_classes, H_0, W_0)

    Source: Roy et al. 2024, "AWGUNet: Attention-aided Wavelet Guided U-net for nuclei segmentation in histopathology
    images", arXiv 2406.08425; the authors' release, `model.py`.
    """

    halving = True

    def __init__(self, in_channels: Sequence[int], width: int = 64, **kwargs: Any) -> None:
        super().__init__(in_channels=in_channels, channels=width, **kwargs)
        widths = [width * 2**level for level in range(len(in_channels) - 1)] + [in_channels[-1]]
        self.attentions = nn.ModuleList(WaveletGuidedAttention(channels) for channels in in_channels)
        self.steps = nn.ModuleList(
            DecoderStep(widths[level + 1], in_channels[level], widths[level]) for level in range(len(in_channels) - 1)
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        levels = self._transform_inputs(inputs)
        *skips, x = (attention(level) for attention, level in zip(self.attentions, levels, strict=True))
        for step, skip in zip(reversed(self.steps), reversed(skips), strict=True):
            x = step(x, skip)
        return self.cls_seg(x)
