"""The backbone and the heads under MMSegmentation's own segmentor, where channel counts are typed."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS

from mmgfnuc.testing import assert_gradients, data_samples, total_loss

WIDTHS = (4, 6, 8, 10)
PIXELS = {'type': 'SegDataPreProcessor', 'mean': [0.0] * 3, 'std': [255.0] * 3, 'size': (64, 48)}


@pytest.fixture(
    params=[
        {'type': 'mmgfnuc.UNetHead'},
        {'type': 'mmgfnuc.UNet3PlusHead', 'skip_channels': 4, 'deep_supervision': True, 'classification_guided': True},
    ],
    ids=lambda head: head['type'],
)
def model(request):
    config = ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=PIXELS,
        backbone={'type': 'mmgfnuc.UNetEncoder', 'widths': WIDTHS},
        decode_head={**request.param, 'in_channels': WIDTHS},
        test_cfg={'mode': 'whole'},
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
