"""A small model, and how it predicts whole images."""

import torch
import torch.nn.functional as F

from mmgfnuc.inference import NucleiInferencer

PLAIN = dict(
    type='mmgfnuc.FusionSegmentor',
    backbone=dict(type='mmgfnuc.UNetEncoder', widths=(6, 12)),
    decode_head=dict(type='mmgfnuc.UNetHead'),
)


def to_inputs(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0


def whole(checkpoint):
    return NucleiInferencer(checkpoint, device='cpu')


def darkness(images):
    """Logits by the sum of what is dark within 4 pixels: whole numbers, so that no rounding moves a threshold."""
    sums = F.conv2d((255 * (1 - images[:, :1])).round(), torch.ones(1, 1, 9, 9), padding=4)
    margin = (sums - sums.new_tensor(81 * 115 + 0.5)) / 100
    return torch.cat([torch.zeros_like(margin), margin], dim=1)
