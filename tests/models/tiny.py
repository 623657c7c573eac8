"""Real parts at small width, and what several tests ask of a module."""

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

TINY_SAM = {'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'global_attn_indexes': (1,)}
BACKBONE = {'type': 'mmgfnuc.UNetEncoder', 'widths': (4, 8, 16)}
DECODE_HEAD = {'type': 'mmgfnuc.UNetHead'}
FOUNDATION = {
    'type': 'mmgfnuc.foundation_encoder',
    'name': 'sam-vit-b',
    'weights': 'random',
    'arch': TINY_SAM,
    'input_size': None,
}
NECK = {'type': 'mmgfnuc.FusionNeck', 'levels': 'all'}
SEGMENTOR = {
    'type': 'mmgfnuc.FusionSegmentor',
    'backbone': BACKBONE,
    'foundation': FOUNDATION,
    'neck': NECK,
    'decode_head': DECODE_HEAD,
}


def fill_with_noise(module, scale=0.1):
    """Replace every parameter, also those that start at zero or one and would hide a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=scale)
    return module


def data_samples(batch, height, width):
    """Truth with background, nucleus and ignored pixels in every image."""
    labels = torch.randint(0, 2, (batch, 1, height, width))
    labels[..., :4, :4] = 255
    samples = [SegDataSample(metainfo=dict.fromkeys(('img_shape', 'ori_shape'), (height, width))) for _ in range(batch)]
    for sample, label in zip(samples, labels, strict=True):
        sample.gt_sem_seg = PixelData(data=label)
    return samples


def total_loss(losses):
    return sum(value for key, value in losses.items() if 'loss' in key)


def assert_gradients(module):
    """Every trainable parameter has a finite gradient that is not all zero."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def assert_round_trip(module, other, *inputs):
    """A second module with the state dict of the first gives the same output, in evaluation mode."""
    fill_with_noise(module).eval()
    other.load_state_dict(module.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(*inputs), module(*inputs), rtol=0, atol=0)
