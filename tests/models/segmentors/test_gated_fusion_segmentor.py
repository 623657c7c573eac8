import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.segmentors import tiled_forward
from mmgfnuc.registry import MODELS

from ..tiny import BACKBONE, DECODE_HEAD, FOUNDATION, NECK, SEGMENTOR, data_samples, fill_with_noise, total_loss


def build(**changes):
    return MODELS.build(SEGMENTOR | changes)


def without_fusion(**changes):
    return build(foundation=None, neck=None, **changes)


def test_wires_the_widths():
    model = build(foundation=FOUNDATION | {'out_layers': (0, 'neck')})
    assert list(model.decode_head.in_channels) == [4, 8, 16]
    gates = [block.gate.squeeze.in_features for block in model.neck.blocks.values()]
    assert gates == [width + 32 + 256 for width in (4, 8, 16)]


@pytest.mark.parametrize('size', [(32, 32), (33, 50)])
def test_runs_the_four_parts_in_order(size):
    model = fill_with_noise(build(), 0.5).eval()
    images = torch.rand(2, 3, *size)
    fused = model.neck(model.backbone(images), model.foundation(images))
    logits = model(images, mode='tensor')
    assert logits.shape == (2, 2, *size)
    torch.testing.assert_close(logits, model.decode_head(fused))


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


@pytest.mark.parametrize(
    'head',
    [DECODE_HEAD, {'type': 'mmgfnuc.UNet3PlusHead', 'skip_channels': 4, 'deep_supervision': True}],
    ids=lambda head: head['type'],
)
@pytest.mark.parametrize('tune', ['frozen', 'full'])
def test_loss_reaches_every_trainable_parameter(head, tune):
    model = build(decode_head=head, foundation=FOUNDATION | {'tune': tune}).train()
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
    expected = model.decode_head.loss_decode(model(images), samples[0].gt_sem_seg.data)
    torch.testing.assert_close(loss, expected)
    samples[0].gt_sem_seg = PixelData(data=torch.full((1, 32, 32), 255))
    assert model(images, samples, mode='loss')['loss_dice_focal'].item() == 0


def test_predict_sets_fields_and_keeps_what_samples_know():
    model = build().eval()
    images, samples = torch.rand(2, 3, 20, 30), data_samples(2, 20, 30)
    truth = [sample.gt_sem_seg.data.clone() for sample in samples]
    with torch.no_grad():
        predicted = model(images, samples, mode='predict')
        logits = model(images, mode='tensor')
    for sample, image_logits, labels in zip(predicted, logits, truth, strict=True):
        torch.testing.assert_close(sample.seg_logits.data, image_logits)
        foreground = image_logits[1] > image_logits[0]
        assert torch.equal(sample.pred_sem_seg.data, foreground.long()[None])
        assert torch.equal(sample.gt_sem_seg.data, labels)


def test_predict_without_samples():
    (sample,) = without_fusion().eval()(torch.rand(1, 3, 16, 16), mode='predict')
    assert isinstance(sample, SegDataSample)
    assert sample.pred_sem_seg.data.shape == (1, 16, 16)


def test_predict_in_tiles():
    model = fill_with_noise(build(test_cfg={'tile': 32, 'overlap': 8}), 0.5).eval()
    images = torch.rand(1, 3, 40, 70)
    with torch.no_grad():
        (sample,) = model(images, mode='predict')
        expected = tiled_forward(model.encode_decode, images, 32, 8)
        assert not torch.allclose(expected, model.encode_decode(images))
    torch.testing.assert_close(sample.seg_logits.data, expected[0])
    small = images[..., :32, :32]
    with torch.no_grad():
        torch.testing.assert_close(model(small, mode='predict')[0].seg_logits.data, model(small)[0])


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
