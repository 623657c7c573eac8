import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.testing import data_samples, fill_with_noise, total_loss

from ..tiny import BACKBONE, DECODE_HEAD, FOUNDATION, NECK, SEGMENTOR
from .build import build, without_fusion


def padded_by_hand(images):
    """To multiples of 4, the deepest stride of the small backbone."""
    return F.pad(images, (0, -images.shape[3] % 4, 0, -images.shape[2] % 4), mode='replicate')


def test_wires_the_widths():
    model = build(foundation=FOUNDATION | {'out_layers': (0, 'neck')})
    assert list(model.decode_head.decoder.in_channels) == [4, 8, 16]
    gates = [block.gate.squeeze.in_features for block in model.neck.blocks.values()]
    assert gates == [width + 32 + 256 for width in (4, 8, 16)]


@pytest.mark.parametrize('backbone', [BACKBONE, {'type': 'mmgfnuc.UNeXtEncoder', 'widths': (4, 6, 8)}])
def test_wires_the_strides(backbone):
    """A head that decodes to the image does so whatever the stride of level 0, and no further."""
    model = without_fusion(backbone=backbone, decode_head={'type': 'mmgfnuc.UNeXtHead'}).eval()
    logits = model.decode_head(model.backbone(torch.rand(1, 3, 64, 48)))
    assert logits.shape == (1, 2, 64, 48)


def test_a_head_of_mmsegmentation():
    """Other heads get the channel counts only."""
    head = {'type': 'mmseg.UPerHead', 'in_index': (0, 1, 2), 'channels': 8, 'num_classes': 2, 'pool_scales': (1, 2)}
    head['loss_decode'] = {'type': 'mmgfnuc.DiceFocalLoss'}
    model = without_fusion(decode_head=head).eval()
    assert model(torch.rand(1, 3, 32, 48)).shape == (1, 2, 32, 48)


@pytest.mark.parametrize('size', [(32, 32), (33, 50)])
def test_runs_the_four_parts_in_order(size):
    model = fill_with_noise(build(), 0.5).eval()
    images = torch.rand(2, 3, *size)
    padded = padded_by_hand(images)
    fused = model.neck(model.backbone(padded), model.foundation(padded), (16.0,))
    logits = model(images, mode='tensor')
    assert logits.shape == (2, 2, *size)
    torch.testing.assert_close(logits, model.decode_head(fused)[..., : size[0], : size[1]])


WITHIN = {
    'type': 'mmgfnuc.EncoderFusionNeck',
    'block': {'type': 'mmgfnuc.GatedFusionBlock', 'preset': 'released', 'wiring': 'text', 'reduction': 1},
}


@pytest.mark.parametrize('size', [(32, 32), (33, 50)])
def test_a_neck_within_the_encoder(size):
    model = fill_with_noise(build(neck=WITHIN), 0.5).eval()
    images = torch.rand(2, 3, *size)
    padded = padded_by_hand(images)
    context, fused, x = model.foundation(padded), [], model.backbone.normalize(padded)
    for level, stage in enumerate(model.backbone.stages):
        made = stage(F.max_pool2d(x, 2) if level else x)
        # The block of this level, by a neck that is given the one level.
        x = model.neck(lambda after, level=level, made=made: after(level, made), context, (16.0,))
        fused.append(x)
    logits = model(images, mode='tensor')
    torch.testing.assert_close(logits, model.decode_head(fused)[..., : size[0], : size[1]])


def test_a_neck_within_an_encoder_that_cannot_be_run_level_by_level():
    with pytest.raises(
        UserError, match=r'EncoderFusionNeck works between the levels .* SwinUNetEncoder cannot be run level by level'
    ):
        build(**COARSE['stride 4'], neck=WITHIN)


HOSTS = {
    'none': {'foundation': None, 'neck': None},
    'gated': {},
    'concat': {'neck': NECK | {'block': {'type': 'mmgfnuc.ConcatFusionBlock'}}},
    'shallow': {'neck': NECK | {'levels': (0,)}},
    'within': {'neck': WITHIN},
}


@pytest.mark.parametrize('parts', HOSTS.values(), ids=list(HOSTS))
def test_dropout_takes_whole_channels_of_the_deepest_level(parts):
    """After the neck, or after the backbone where there is none."""
    model, images = fill_with_noise(build(**parts, bottleneck_dropout=0.4), 0.5).train(), torch.rand(8, 3, 32, 40)
    seen = []
    (model.neck or model.backbone).register_forward_hook(lambda *args: seen.append(args[-1]))
    dropped = model.extract_feat(images)
    (made,) = seen
    assert len(dropped) == len(made)
    assert all(after is before for after, before in zip(dropped[:-1], made[:-1], strict=True))
    kept = dropped[-1].flatten(2).any(2)
    assert 0.4 < kept.float().mean() < 0.8
    torch.testing.assert_close(dropped[-1], kept[:, :, None, None] * made[-1] / 0.6)
    model.eval().extract_feat(images)
    assert torch.equal(model.extract_feat(images)[-1], seen[-1][-1])


def test_by_default_nothing_is_dropped():
    model, images = without_fusion().train(), torch.rand(2, 3, 32, 40)
    random = torch.get_rng_state()
    first, again = model.extract_feat(images), model.extract_feat(images)
    assert all(torch.equal(*levels) for levels in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize('dropout', [-0.1, 1, 1.5, 'much', None])
def test_dropout_that_is_no_probability(dropout):
    with pytest.raises(UserError, match=f'bottleneck_dropout={dropout!r}: give a probability from 0, below 1'):
        without_fusion(bottleneck_dropout=dropout)


COARSE = {
    'stride 2': {'backbone': {'type': 'mmgfnuc.UNeXtEncoder', 'widths': (4, 6, 8)}},
    'stride 4': {
        'backbone': {'type': 'mmgfnuc.SwinUNetEncoder', 'embed_dim': 4, 'depths': (1, 1), 'num_heads': (1, 2)},
        'decode_head': {'type': 'mmgfnuc.UNet3PlusHead', 'skip_channels': 4},
    },
}


@pytest.mark.parametrize('parts', COARSE.values(), ids=list(COARSE))
def test_logits_stay_over_their_pixels_at_any_size(parts):
    """Those of the padded image, cropped, where level 0 is coarser than the image: nothing is squeezed."""
    model = fill_with_noise(without_fusion(**parts), 0.5).eval()
    images = torch.rand(1, 3, 37, 41)
    padded = F.pad(images, (0, -41 % 8, 0, -37 % 8), mode='replicate')
    torch.testing.assert_close(model(images), model(padded)[..., :37, :41])


def test_what_is_padded_is_no_truth():
    model = fill_with_noise(without_fusion(), 0.3).eval()
    images, samples = torch.rand(1, 3, 33, 50), data_samples(1, 33, 50)
    losses = model(images, samples, mode='loss')
    expected = model.decode_head.decoder.loss_decode(model(images), samples[0].gt_sem_seg.data)
    torch.testing.assert_close(losses['loss_dice_focal'], expected)
    assert samples[0].gt_sem_seg.data.shape == (1, 33, 50)


def test_the_foundation_encoder_reaches_the_output():
    model = fill_with_noise(build(), 0.5).eval()
    images = torch.rand(1, 3, 32, 32)
    with_context = model(images)
    fill_with_noise(model.foundation, 1.0)
    assert not torch.allclose(model(images), with_context)


def test_without_fusion():
    model = without_fusion().eval()
    images = torch.rand(1, 3, 32, 40)
    torch.testing.assert_close(model(images), model.decode_head(model.backbone(images)))


class CoarseHead(nn.Module):
    """Answers at half the size, as a head over a strided backbone does."""

    def __init__(self, in_channels):
        super().__init__()
        self.classify = nn.Conv2d(in_channels[1], 2, 1)

    def forward(self, pyramid):
        return self.classify(pyramid[1])


def test_logits_are_resized_to_the_image():
    model = without_fusion(decode_head={'type': CoarseHead}).eval()
    images = torch.rand(1, 3, 32, 40)
    coarse = model.decode_head(model.backbone(images))
    assert coarse.shape == (1, 2, 16, 20)
    torch.testing.assert_close(model(images), F.interpolate(coarse, (32, 40), mode='bilinear', align_corners=False))


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        ({'neck': None}, 'model has a foundation but no neck; give both for fusion, or neither'),
        ({'foundation': None}, 'model has a neck but no foundation; give both for fusion, or neither'),
    ],
)
def test_half_a_fusion(parts, message):
    with pytest.raises(UserError, match=message):
        build(**parts)


CONTEXT_NECK = NECK | {'block': {'type': 'mmgfnuc.ContextFusionBlock', 'reduction': 1}}
PAPER_NECK = NECK | {'block': {'type': 'mmgfnuc.GatedFusionBlock', 'reduction': 1}}


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('out_layers', [('neck',), (0, 1, 'neck')])
def test_context_fusion_starts_as_the_unet_alone(out_layers, training):
    """Not about the same: the same logits and losses, at every level fused, in training and at prediction."""
    alone = without_fusion()
    model = build(neck=CONTEXT_NECK, foundation=FOUNDATION | {'out_layers': out_layers})
    model.init_weights()
    unexpected = model.load_state_dict(alone.state_dict(), strict=False).unexpected_keys
    assert not unexpected
    for part in (alone, model):
        part.train(training)
    images, samples = torch.rand(2, 3, 33, 50), data_samples(2, 33, 50)
    torch.testing.assert_close(model(images), alone(images), rtol=0, atol=0)
    losses = [part(images, samples, mode='loss') for part in (model, alone)]
    torch.testing.assert_close(*losses, rtol=0, atol=0)
    for loss in losses:
        total_loss(loss).backward()
    for name, parameter in alone.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad, msg=name)


@pytest.mark.parametrize(
    ('neck', 'told_of_places'), [(CONTEXT_NECK, True), (PAPER_NECK, False)], ids=['context', 'paper']
)
def test_only_context_fusion_tells_the_decoder_of_places(neck, told_of_places):
    """After some training steps, tokens that change places change the logits; the paper's block sees only means."""
    model = build(neck=neck | {'levels': (-1,)}).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-2)
    images, samples = torch.rand(2, 3, 32, 32), data_samples(2, 32, 32)
    for _ in range(10):
        optimizer.zero_grad()
        total_loss(model(images, samples, mode='loss')).backward()
        optimizer.step()
    model.eval()
    # 2 x 2 tokens, 8 x 8 pixels: each token has the same share in the bilinear map, so its mean stays.
    logits = model(images)
    model.foundation.register_forward_hook(lambda *args: tuple(x.flip(-1) for x in args[-1]))
    moved = (model(images) - logits).abs().max()
    assert moved > 1e-2 if told_of_places else moved < 1e-5


def partner_model(**changes):
    return fill_with_noise(build(partner_context=True, **changes), 0.5).eval()


def test_the_context_is_that_of_the_partner():
    model = partner_model()
    images, partners = torch.rand(2, 3, 33, 50), torch.rand(2, 3, 33, 50)
    local, context = model.backbone(padded_by_hand(images)), model.foundation(padded_by_hand(partners))
    logits = model(torch.cat([images, partners], 1))
    assert logits.shape == (2, 2, 33, 50)
    torch.testing.assert_close(logits, model.decode_head(model.neck(local, context, (16.0,)))[..., :33, :50])
    assert not torch.allclose(model(torch.cat([images, images], 1)), logits)


def test_an_image_that_is_its_own_partner_is_the_usual_case():
    model, images = partner_model(), torch.rand(2, 3, 32, 40)
    usual = build().eval()
    usual.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(torch.cat([images, images], 1)), usual(images), rtol=0, atol=0)


def test_partners_in_training_and_at_prediction():
    model = partner_model(test_cfg={'scale': 0.5, 'tile': 32})
    data = {
        'inputs': [torch.randint(0, 256, (6, 64, 112), dtype=torch.uint8)] * 2,
        'data_samples': data_samples(2, 64, 112),
    }
    both = model.data_preprocessor(data, True)
    logged = model.parse_losses(model.train()(**both, mode='loss'))[1]
    assert logged['loss'].isfinite()
    samples = model.eval().val_step(data)
    assert [sample.pred_probabilities.data.shape for sample in samples] == [(2, 64, 112)] * 2
    with torch.no_grad():
        torch.testing.assert_close(samples[0].pred_probabilities.data, model.predict_maps(both['inputs'])[0][0])
        swapped = model.predict_maps(both['inputs'].roll(3, 1))[0][0]
    assert not torch.allclose(samples[0].pred_probabilities.data, swapped)


@pytest.mark.parametrize('channels', [3, 5, 7])
def test_partner_context_without_partners(channels):
    with pytest.raises(
        UserError,
        match=f'takes 6 channels, an image and its partner, not {channels}; set partner_images=True in the dataset',
    ):
        partner_model()(torch.rand(1, channels, 32, 32))


def test_partners_without_partner_context():
    with pytest.raises(UserError, match='images have 6 channels, UNetEncoder takes 3'):
        build()(torch.rand(1, 6, 32, 32))


def test_partner_context_needs_a_foundation_encoder():
    with pytest.raises(UserError, match='partner_context=True needs a foundation encoder, which would see the partner'):
        without_fusion(partner_context=True)


@pytest.mark.parametrize('channels', [1, 4])
def test_foundation_encoders_take_rgb(channels):
    model = build(backbone=BACKBONE | {'in_channels': channels})
    with pytest.raises(UserError, match=f"'sam-vit-b' takes RGB images, 3 channels, not {channels}; give such"):
        model(torch.rand(1, channels, 32, 32))


@pytest.mark.parametrize(
    'head',
    [DECODE_HEAD, {'type': 'mmgfnuc.UNet3PlusHead', 'skip_channels': 4, 'deep_supervision': True}],
    ids=lambda head: head['type'],
)
@pytest.mark.parametrize(('tune', 'out_layers'), [('frozen', ('neck',)), ('full', ('neck',)), ('full', (0,))])
def test_loss_reaches_every_trainable_parameter(head, tune, out_layers):
    model = build(decode_head=head, foundation=FOUNDATION | {'tune': tune, 'out_layers': out_layers}).train()
    losses = model(torch.rand(2, 3, 48, 32), data_samples(2, 48, 32), mode='loss')
    assert losses.keys() >= {'loss_dice_focal', 'acc_seg'}
    total_loss(losses).backward()
    for name, parameter in model.named_parameters():
        trainable = tune == 'full' or not name.startswith('foundation.')
        assert parameter.requires_grad == trainable, name
        assert (parameter.grad is not None) == trainable, name
        assert not trainable or parameter.grad.isfinite().all(), name


def test_loss_ignores_255():
    model = without_fusion().eval()
    samples, images = data_samples(1, 32, 32), torch.rand(1, 3, 32, 32)
    loss = model(images, samples, mode='loss')['loss_dice_focal']
    expected = model.decode_head.decoder.loss_decode(model(images), samples[0].gt_sem_seg.data)
    torch.testing.assert_close(loss, expected)
    samples[0].gt_sem_seg = PixelData(data=torch.full((1, 32, 32), 255))
    assert model(images, samples, mode='loss')['loss_dice_focal'].item() == 0


def test_training_takes_images_as_they_come():
    """They are rescaled in the pipeline: `test_cfg` plays no part."""
    images, samples = torch.rand(2, 3, 32, 48), data_samples(2, 32, 48)
    model = fill_with_noise(build(), 0.5).eval()
    other = build(test_cfg={'scale': 0.5, 'tile': 16}).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(images, samples, mode='loss'), model(images, samples, mode='loss'))
    torch.testing.assert_close(other(images), model(images))


def test_steps_of_mmengine():
    """From uint8 images to losses and predictions, as the runner asks for them."""
    model = without_fusion()
    data = {
        'inputs': [torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)] * 2,
        'data_samples': data_samples(2, 32, 32),
    }
    logged = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))[1]
    assert logged['loss'] == logged['loss_dice_focal']
    assert len(model.eval().val_step(data)) == 2


def test_data_preprocessor_of_the_config():
    assert type(build().data_preprocessor).__name__ == 'NucleiDataPreprocessor'
    typed = build(data_preprocessor={'type': 'BaseDataPreprocessor'})
    assert type(typed.data_preprocessor).__name__ == 'BaseDataPreprocessor'


def test_config_is_not_changed():
    before = repr(SEGMENTOR)
    build()
    assert repr(SEGMENTOR) == before
    assert SEGMENTOR['backbone'] is BACKBONE
    assert SEGMENTOR['neck'] is NECK
