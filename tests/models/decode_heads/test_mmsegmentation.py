"""The backbone and the heads under MMSegmentation's own segmentor, where channel counts are typed."""

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import resize
from mmgfnuc.testing import assert_gradients, data_samples, fill_with_noise, total_loss

WIDTHS = (4, 6, 8, 10)
WHOLE = {'mode': 'whole'}
SLIDE = {'mode': 'slide', 'crop_size': (32, 32), 'stride': (16, 16)}
PIXELS = {'type': 'SegDataPreProcessor', 'mean': [0.0] * 3, 'std': [255.0] * 3, 'size': (64, 48)}


@pytest.fixture(
    params=[
        {'type': 'mmgfnuc.UNetHead'},
        {'type': 'mmgfnuc.UNet3PlusHead', 'skip_channels': 4, 'deep_supervision': True, 'classification_guided': True},
    ],
    ids=lambda head: head['type'],
)
def model(request):
    return build(request.param)


def build(head, preprocessor=PIXELS, test_cfg=WHOLE):
    config = ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=preprocessor,
        backbone={'type': 'mmgfnuc.UNetEncoder', 'widths': WIDTHS},
        decode_head={**head, 'in_channels': WIDTHS},
        test_cfg=test_cfg,
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config)
    assert type(model) is EncoderDecoder
    return model


def batch():
    images = [torch.randint(0, 256, (3, 64, 48), dtype=torch.uint8) for _ in range(2)]
    return {'inputs': images, 'data_samples': data_samples(2, 64, 48)}


def test_logits(model):
    inputs = model.data_preprocessor(batch())['inputs']
    assert 0 <= inputs.min() < inputs.max() <= 1
    logits = model.eval()(inputs, mode='tensor')
    assert logits.shape == (2, 2, 64, 48)
    expected = model.decode_head(model.backbone(inputs))
    torch.testing.assert_close(logits, expected)


def test_loss_and_prediction(model):
    model.train()
    data = model.data_preprocessor(batch(), training=True)
    losses = model(**data, mode='loss')
    total = total_loss(losses)
    assert total.isfinite()
    total.backward()
    assert_gradients(model)
    prediction = model.eval()(**model.data_preprocessor(batch()), mode='predict')
    assert [sample.pred_sem_seg.data.shape for sample in prediction] == [(1, 64, 48)] * 2


def instance_head(name, num_classes=3):
    return {'type': f'mmgfnuc.{name}', 'decoder': {'type': 'mmgfnuc.UNetHead', 'num_classes': num_classes}}


def typed_batch(num_classes=3):
    data = batch()
    for sample in data['data_samples']:
        sample.gt_sem_seg.data[..., 20:, :] = num_classes - 1
        sample.gt_hover_map = PixelData(data=torch.rand(2, 64, 48))
        sample.gt_distance_map = PixelData(data=torch.rand(1, 64, 48))
        sample.gt_boundary_map = PixelData(data=torch.randint(0, 3, (1, 64, 48)))
    return data


@pytest.mark.parametrize('name', ['SemanticHead', 'HoverHead', 'DualDecoderHead', 'BoundaryHead'])
def test_instance_heads(name):
    """Trained there, and what is written there is what the head's own probabilities say."""
    model = build(instance_head(name)).train()
    model(**model.data_preprocessor(typed_batch(), training=True), mode='loss')
    total_loss(model(**model.data_preprocessor(typed_batch(), training=True), mode='loss')).backward()
    assert_gradients(model)
    head, data = fill_with_noise(model, 0.5).eval().decode_head, model.data_preprocessor(batch())
    with torch.no_grad():
        samples = model(**data, mode='predict')
        maps = head.activate(resize(head(model.extract_feat(data['inputs'])), (64, 48)))
    for sample, map_ in zip(samples, maps, strict=True):
        assert sample.seg_logits.data.shape == (3, 64, 48)
        torch.testing.assert_close(sample.seg_logits.data.softmax(0), map_[:3], rtol=1e-4, atol=1e-5)
        assert torch.equal(sample.pred_sem_seg.data[0], map_[:3].argmax(0))
        nuclei = head.nuclei(1 - map_[0], map_[3:], mpp=None)
        assert nuclei.shape == (64, 48)
        assert nuclei.dtype == np.int32


@pytest.mark.parametrize('name', ['HoverHead', 'BoundaryHead'])
def test_instance_heads_in_a_sliding_window(name):
    model = build(instance_head(name), test_cfg=SLIDE).eval()
    samples = model(**model.data_preprocessor(batch()), mode='predict')
    assert [sample.pred_sem_seg.data.shape for sample in samples] == [(1, 64, 48)] * 2


def test_a_map_that_is_not_padded_with_the_classes_is_refused():
    """MMSegmentation's preprocessor pads the semantic map alone: the maps would be stretched against each other."""
    model = build(instance_head('HoverHead'), PIXELS | {'size': (96, 96)}).train()
    with pytest.raises(UserError, match='gt_hover_map has 64x48 pixels, gt_sem_seg 96x96'):
        model(**model.data_preprocessor(typed_batch(), training=True), mode='loss')
