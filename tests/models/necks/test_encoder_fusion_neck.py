from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmgfnuc import create_model
from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.necks import ContextAdapter, EncoderFusionNeck
from mmgfnuc.testing import assert_gradients, fill_with_noise

from .oracles import count

WIDTHS = (32, 64, 128, 256, 512)
STRIDES = (1, 2, 4, 8, 16)
BLOCK = {'type': 'mmgfnuc.GatedFusionBlock', 'preset': 'released', 'wiring': 'text'}
NARROW = BLOCK | {'reduction': 1}


def released(context_channels=(256,), widths=WIDTHS, block=BLOCK, **settings):
    return EncoderFusionNeck(widths, context_channels, STRIDES[: len(widths)], block=block, **settings)


def small(**settings):
    """Under three levels and tokens of 4 pixels: projections 6 -> 2 (stride 4), 6 -> 4 (stride 2), none."""
    return fill_with_noise(released((6,), (4, 8, 16), NARROW, **settings), 0.5).eval()


def encoder_of(widths=(4, 8, 16), size=(32, 48)):
    encoder = UNetEncoder(widths=widths).eval()
    return encoder, torch.rand(2, 3, *size)


def test_parameters_of_the_second_released_configuration():
    neck = released()
    assert count(neck) == 1_576_157
    assert [block.gate.squeeze.out_features for block in neck.blocks.values()] == [3, 6, 12, 24, 48]
    assert [block.attention is not None for block in neck.blocks.values()] == [False] * 4 + [True]
    shapes = [(type(part).__name__, *part.weight.shape, *part.stride) for part in neck.projections.values()]
    assert shapes == [
        ('ConvTranspose2d', 256, 16, 8, 8, 4, 4),
        ('ConvTranspose2d', 256, 32, 4, 4, 2, 2),
        ('Conv2d', 64, 256, 1, 1, 1, 1),
        ('Conv2d', 128, 256, 1, 1, 1, 1),
    ]


def test_preset_is_the_second_released_configuration():
    with torch.device('meta'):
        model = create_model('eunet3+', foundation='sam-vit-b', fusion='released-multilevel', weights='random')
    assert count(model.neck) == 1_576_157
    assert model.neck.adapter.halve[1].padding_mode == 'zeros'


# The reference: docs/method.md, "The released configurations", by functions of its own, with the weights of the neck


def pooled(x):
    """Max-pool, then the binomial blur with zeros beyond the border."""
    row = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype)
    kernel = (row[:, None] * row / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.max_pool2d(x, 2), kernel, padding=1, groups=x.shape[1])


def transposed(x, part, stride, padding):
    """Transposed convolution by its definition: zeros between the pixels, then the kernel turned round."""
    height, width = x.shape[-2:]
    spread = x.new_zeros(*x.shape[:2], (height - 1) * stride + 1, (width - 1) * stride + 1)
    spread[..., ::stride, ::stride] = x
    side = part.weight.shape[-1]
    return F.conv2d(spread, part.weight.flip(2, 3).transpose(0, 1), part.bias, padding=side - 1 - padding)


def linear(x, part):
    return x @ part.weight.mT + part.bias


def gated(local, context, gate):
    z = torch.cat([local.flatten(2).mean(2), context.flatten(2).mean(2)], dim=1)
    g = 1 / (1 + torch.exp(-linear(linear(z, gate.squeeze).clamp(min=0), gate.excite)))
    return g[:, :, None, None] * local


def attended(x, attention):
    """One head, queries, keys and values from one map; no position, residual or norm."""
    tokens = x.flatten(2).mT
    query, key, value = (linear(tokens, part) for part in (attention.query, attention.key, attention.value))
    weights = (query @ key.mT / x.shape[1] ** 0.5).softmax(-1)
    return linear(weights @ value, attention.out).mT.unflatten(2, x.shape[-2:])


def reference(encoder, images, embedding, neck):
    projections = [neck.projections[str(level)] for level in range(4)]
    contexts = [
        transposed(embedding, projections[0], stride=4, padding=2),
        transposed(embedding, projections[1], stride=2, padding=1),
        F.conv2d(embedding, projections[2].weight, projections[2].bias),
        pooled(F.conv2d(embedding, projections[3].weight, projections[3].bias)),
        pooled(pooled(embedding)),
    ]
    x, pyramid = (images - 0.5) / 0.5, []
    for level, stage in enumerate(encoder.stages):
        x = gated(stage(pooled(x) if level else x), contexts[level], neck.blocks[str(level)].gate)
        pyramid.append(x)
    pyramid[-1] = attended(x, neck.blocks['4'].attention)
    return pyramid


@pytest.mark.slow
@torch.no_grad()
def test_equals_the_reference():
    torch.manual_seed(0)
    encoder = UNetEncoder(widths=WIDTHS, activation='glu', downsampling='max_blur_pool', blur_padding='zeros')
    encoder, neck = encoder.double().eval(), fill_with_noise(released(blur_padding='zeros'), 0.1).double().eval()
    images, embedding = torch.rand(2, 3, 64, 64).double(), torch.randn(2, 256, 16, 16).double()
    expected = reference(encoder, images, embedding, neck)
    fused = neck(partial(encoder, images), [embedding], (4.0,))
    assert [level.shape[-1] for level in fused] == [64, 32, 16, 8, 4]
    for level, wanted in zip(fused, expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-10, atol=1e-10)
    # Strides or areas, the same here.
    for level, again in zip(fused, neck(partial(encoder, images), [embedding]), strict=True):
        assert torch.equal(level, again)


@torch.no_grad()
def test_levels_that_are_not_fused_pass():
    encoder, images = encoder_of()
    neck = small(levels=(1,))
    fused, alone = neck(partial(encoder, images), [torch.randn(2, 6, 8, 12)], (4.0,)), encoder(images)
    assert [torch.equal(level, other) for level, other in zip(fused, alone, strict=True)] == [True, False, False]


@pytest.mark.parametrize(
    ('stride', 'kernels', 'strides'),
    [(16, [32, 16, 8], [16, 8, 4]), (14, [28, 13, 8], [14, 7, 4]), (2, [4, 1, 1], [2, 1, 1]), (1, [1] * 3, [1] * 3)],
)
def test_projections_follow_the_stride_of_the_tokens(stride, kernels, strides):
    neck = EncoderFusionNeck((4, 8, 16, 32), (6,), (1, 2, 4, 8), context_stride=stride, block=NARROW)
    parts = list(neck.projections.values())
    assert [part.kernel_size[0] for part in parts] == kernels
    assert [part.stride[0] for part in parts] == strides
    assert [part.out_channels for part in parts] == [2, 4, 8]
    for part, factor in zip(parts, strides, strict=True):
        assert part(torch.rand(1, 6, 3, 5)).shape[-2:] == (3 * factor, 5 * factor)


@pytest.mark.parametrize(
    ('context_channels', 'sizes', 'strides'),
    [
        ((6,), [(8, 12)], (4.0,)),
        ((6,), [(3, 4)], (14.0,)),
        ((4, 2), [(8, 12), (2, 3)], (4.0, 16.0)),
        ((6,), [(2, 2)], None),
    ],
)
def test_any_features_and_sizes(context_channels, sizes, strides):
    encoder, images = encoder_of(size=(33, 46))
    neck = fill_with_noise(released(context_channels, (4, 8, 16), NARROW), 0.5)
    context = [torch.randn(2, channels, *size) for channels, size in zip(context_channels, sizes, strict=True)]
    fused = neck(partial(encoder, images), context, strides)
    assert [level.shape for level in fused] == [level.shape for level in encoder(images)]
    sum(level.square().mean() for level in fused).backward()
    # A bias of the keys adds the same to all scores of a query.
    neck.blocks['2'].attention.key.bias.requires_grad_(False)
    assert_gradients(neck)


@torch.no_grad()
def test_larger_images_under_sam_are_resampled():
    """Tokens of 8 pixels under projections for 4: what is left, a factor of 2, is bilinear."""
    neck, seen = small(), {}
    for level, block in neck.blocks.items():
        block.register_forward_pre_hook(lambda _, inputs, level=level: seen.update({level: inputs[1]}))
    encoder, images = encoder_of(size=(64, 96))
    feature = torch.randn(2, 6, 8, 12)
    neck(partial(encoder, images), [feature], (8.0,))
    projected = neck.projections['0'](feature)
    torch.testing.assert_close(seen['0'], ContextAdapter()([projected], (64, 96), [(2.0, 2.0)]))
    assert projected.shape[-2:] == (32, 48)


@torch.no_grad()
def test_explains_what_it_does():
    encoder, images = encoder_of()
    neck, context = small(), [torch.randn(2, 6, 8, 12)]
    gates = {}
    for level, block in neck.blocks.items():
        block.gate.register_forward_hook(lambda _, __, made, level=level: gates.update({int(level): made.flatten(1)}))
    fused = neck(partial(encoder, images), context, (4.0,))
    wanted = dict(gates)
    done = neck.explain(partial(encoder, images), context, (4.0,))
    assert list(done) == [0, 1, 2]
    for level, found in done.items():
        assert torch.equal(found['gate'], wanted[level])
        assert ('attention_entropy' in found) == (level == 2)
    for level, again in zip(fused, neck(partial(encoder, images), context, (4.0,)), strict=True):
        assert torch.equal(level, again)


@pytest.mark.parametrize('control', ['zero', 'shuffled'])
@torch.no_grad()
def test_controls(control):
    encoder, images = encoder_of()
    neck, context = small(control=control), [torch.randn(2, 6, 8, 12)]
    others = [feature + 1 for feature in context]
    fused, other = (neck(partial(encoder, images), features, (4.0,)) for features in (context, others))
    assert torch.equal(fused[0], other[0]) == (control == 'zero')


def test_errors():
    with pytest.raises(UserError, match=r'context_stride=0: give pixels per token, from 1'):
        released(context_stride=0)
    with pytest.raises(UserError, match="'same' is unknown; choose one of replicate, zeros"):
        released(blur_padding='same')
