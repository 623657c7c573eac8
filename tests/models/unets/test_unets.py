"""Every U-Net of the zoo as a whole, alone and crossed with foundation encoders and fusions; parts have batteries."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

import mmgfnuc
from mmgfnuc.errors import UserError
from mmgfnuc.testing import data_samples, total_loss
from mmgfnuc.testing.checks import assert_trains

from .small import SMALL

UNETS = sorted(SMALL)
each_unet = pytest.mark.parametrize('unet', UNETS)


def build(unet, parts=None, **settings):
    """The small form of a preset."""
    torch.manual_seed(0)
    return mmgfnuc.create_model(unet, parts=SMALL[unet] | (parts or {}), **settings)


def assert_trained(model, size):
    images, samples = torch.rand(2, 3, size, size), data_samples(2, size, size)
    # The softmax takes no notice of a bias of the keys.
    assert_trains(model.train(), lambda: total_loss(model(images, samples, mode='loss')), ('attention.key.bias',))


def test_every_unet_is_tested():
    assert mmgfnuc.list_unets() == UNETS


@each_unet
@pytest.mark.parametrize('size', [(97, 101), (99, 130)])
@torch.no_grad()
def test_logits_stay_over_their_pixels(unet, size):
    """At sizes that the strides do not divide they are those of the image continued to the next that they do."""
    model = build(unet).eval()
    images = torch.rand(1, 3, *size)
    bottom, right = (-side % model.backbone.out_strides[-1] for side in size)
    whole = model(F.pad(images, (0, right, 0, bottom), mode='replicate'))
    torch.testing.assert_close(model(images), whole[..., : size[0], : size[1]], rtol=1e-4, atol=1e-5)


@each_unet
@pytest.mark.parametrize('in_channels', [1, 4])
@torch.no_grad()
def test_image_channels_and_classes(unet, in_channels):
    logits = build(unet, in_channels=in_channels, num_classes=5).eval()(torch.rand(1, in_channels, 96, 96))
    assert logits.shape == (1, 5, 96, 96)
    assert logits.isfinite().all()


@each_unet
def test_training_reaches_every_parameter(unet):
    assert_trained(build(unet), 96)


TINY_VIT = {'embed_dim': 24, 'depth': 2, 'num_heads': 3}
FOUNDATIONS = {
    'sam': {'name': 'sam-vit-b', 'arch': TINY_VIT | {'global_attn_indexes': (1,)}, 'input_size': None},
    # Patches of 14 pixels, register tokens, layer scale.
    'dinov2': {'name': 'dinov2-vit-s14-reg', 'arch': TINY_VIT, 'out_layers': (0, 1)},
    # Patches of 32 pixels, a norm before the first block.
    'clip': {'name': 'clip-vit-b32-openai', 'arch': TINY_VIT},
}
# Fusions of one kind differ in what no U-Net has a part in: the function of the gate, the order of the tokens.
FUSIONS = (('paper', 'released'), ('context', 'shuffled-context-spatial'), ('concat',))


def pairwise_cases():
    """Three cases for each U-Net, by a Latin square: each encoder and each kind of fusion once, its fusions in turn."""
    for place, unet in enumerate(UNETS):
        for column, foundation in enumerate(sorted(FOUNDATIONS)):
            kind = FUSIONS[(place + column) % len(FUSIONS)]
            yield unet, foundation, kind[place // len(FUSIONS) % len(kind)]


def test_every_pair_is_in_some_case():
    cases = list(pairwise_cases())
    kinds = {fusion: number for number, kind in enumerate(FUSIONS) for fusion in kind}
    assert {(unet, foundation) for unet, foundation, _ in cases} == {*product(UNETS, FOUNDATIONS)}
    assert {(unet, kinds[fusion]) for unet, _, fusion in cases} == {*product(UNETS, kinds.values())}
    assert {(foundation, fusion) for _, foundation, fusion in cases} == {*product(FOUNDATIONS, kinds)}
    assert len(cases) == len(UNETS) * len(FOUNDATIONS)


@pytest.mark.parametrize(('unet', 'foundation', 'fusion'), pairwise_cases())
def test_matrix(unet, foundation, fusion):
    """Forward, backward and gradients of every U-Net with every foundation encoder and every kind of fusion."""
    encoder = {'type': 'mmgfnuc.foundation_encoder', 'weights': 'random'} | FOUNDATIONS[foundation]
    # Of the few hidden units that a narrow gate has, all may be switched off by the ReLU.
    parts = {} if fusion == 'concat' else {'neck': {'block': {'reduction': 1}}}
    model = build(unet, parts, foundation=encoder, fusion=fusion)
    assert_trained(model, 64)
    with torch.no_grad():
        assert model.eval()(torch.rand(1, 3, 70, 90)).shape == (1, 2, 70, 90)


# Those whose encoder cannot be run level by level.
WHOLE = ('awgunet', 'swin-unet', 'timm-unet', 'transunet')


@each_unet
def test_fusion_within_the_encoder(unet):
    def fused():
        encoder = {'type': 'mmgfnuc.foundation_encoder', 'weights': 'random'} | FOUNDATIONS['dinov2']
        return build(unet, {'neck': {'block': {'reduction': 1}}}, foundation=encoder, fusion='released-multilevel')

    if unet in WHOLE:
        with pytest.raises(UserError, match='cannot be run level by level'):
            fused()
        return
    model = fused()
    assert_trained(model, 64)
    with torch.no_grad():
        assert model.eval()(torch.rand(1, 3, 70, 90)).shape == (1, 2, 70, 90)


@pytest.mark.parametrize('fusion', ['paper', 'context'])
@each_unet
def test_every_level_can_be_fused(unet, fusion):
    """At full size, whatever its number of channels."""
    encoder = {'type': 'mmgfnuc.foundation_encoder', 'weights': 'random'} | FOUNDATIONS['dinov2']
    with torch.device('meta'):
        model = mmgfnuc.create_model(unet, encoder, fusion, parts={'neck': {'levels': 'all'}})
    assert len(model.neck.blocks) == len(model.backbone.out_channels)
