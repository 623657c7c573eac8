"""Parts of MMSegmentation in our segmentor: backbones, decode heads, auxiliary heads."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn

from mmgfnuc.engine.settings import check_model
from mmgfnuc.errors import UserError
from mmgfnuc.models.complexity import count_macs, on_meta
from mmgfnuc.testing import assert_gradients, assert_round_trip, data_samples, fill_with_noise, total_loss

from ..backbones.test_module_backbone import MIT, RESNET, SWIN
from ..tiny import BACKBONE, FOUNDATION
from .build import build, without_fusion

CONTEXT = {'type': 'mmgfnuc.FusionNeck', 'block': {'type': 'mmgfnuc.ContextFusionBlock'}}
UNET3PLUS = {'type': 'mmgfnuc.UNet3PlusHead', 'skip_channels': 4, 'deep_supervision': True}
SIZE = (65, 90)


def hover(decoder):
    return {'type': 'mmgfnuc.HoverHead', 'decoder': decoder}


def truth():
    samples = data_samples(2, *SIZE)
    for sample in samples:
        sample.gt_hover_map = PixelData(data=torch.rand(2, *SIZE))
        sample.gt_boundary_map = PixelData(data=torch.randint(0, 3, (1, *SIZE)))
    return samples


SEGFORMER = {'type': 'mmseg.SegformerHead', 'in_index': [0, 1, 2, 3], 'channels': 4, 'num_classes': 2}


@pytest.mark.parametrize(
    ('backbone', 'head', 'fused', 'scope'),
    [
        (RESNET, hover({'type': 'mmgfnuc.UNetHead'}), True, 'mmseg'),
        ({**RESNET, 'type': 'mmseg.ResNetV1c', 'norm_cfg': {'type': 'SyncBN'}}, UNET3PLUS, False, None),
        (SWIN, {'type': 'mmgfnuc.BoundaryHead', 'decoder': UNET3PLUS}, True, 'mmengine'),
        (MIT, hover(SEGFORMER), True, None),
        (MIT, hover(SEGFORMER), True, 'mmseg'),
        (BACKBONE, {'type': 'mmseg.FCNHead', 'channels': 4, 'num_classes': 2}, False, 'mmengine'),
    ],
)
def test_backbones_and_heads(backbone, head, fused, scope):
    """At a size that no level divides; whatever the default scope is."""
    parts = {'backbone': backbone, 'decode_head': head}
    parts |= {'foundation': FOUNDATION, 'neck': CONTEXT} if fused else {'foundation': None, 'neck': None}
    with DefaultScope.overwrite_default_scope(scope):
        model, other = build(**parts), build(**parts)
    fill_with_noise(model, 0.3).train()
    total_loss(model(torch.rand(2, 3, *SIZE), truth(), mode='loss')).backward()
    assert_gradients(model)
    (sample,) = model.eval()(torch.rand(1, 3, *SIZE), mode='predict')
    assert sample.pred_instance_map.data.shape == (1, *SIZE)
    assert_round_trip(model, other, torch.rand(1, 3, 50, 70))


class OwnHead(BaseDecodeHead):
    """Takes all levels by its own nature, and says so to MMSegmentation alone."""

    def __init__(self, in_channels, **kwargs):
        levels = list(range(len(in_channels)))
        super().__init__(
            list(in_channels), 4, num_classes=2, in_index=levels, input_transform='resize_concat', **kwargs
        )
        self.project = nn.Conv2d(sum(in_channels), 4, 1)

    def forward(self, inputs):
        return self.cls_seg(self.project(self._transform_inputs(inputs)))


def test_a_head_of_one_s_own_takes_all_levels():
    model = without_fusion(decode_head={'type': OwnHead})
    assert model(torch.rand(1, 3, *SIZE)).shape == (1, 2, *SIZE)


def test_a_neck_within_the_encoder_is_refused():
    with pytest.raises(UserError, match='ResNet cannot be run level by level'):
        build(backbone=RESNET, foundation=FOUNDATION, neck={'type': 'mmgfnuc.EncoderFusionNeck'})


FCN = {'type': 'mmseg.FCNHead', 'in_index': 1, 'channels': 4, 'num_convs': 1, 'dropout_ratio': 0.0}
TIMM = {'type': 'mmgfnuc.TimmBackbone', 'model_name': 'test_resnet'}
TYPES = hover({'type': 'mmgfnuc.UNetHead', 'num_classes': 4})


def test_auxiliary_heads_learn_beside_the_head():
    """Wired to their levels and to the classes, the boundary left out; side outputs keep their own names."""
    several = [FCN, {'type': 'mmgfnuc.UNetHead'}]
    head = {'type': 'mmgfnuc.BoundaryHead', 'decoder': {**UNET3PLUS, 'num_classes': 4}}
    model = without_fusion(decode_head=head, auxiliary_head=several).train()
    first, second = model.auxiliary_head.values()
    assert (first.in_channels, first.num_classes, second.in_channels, second.num_classes) == (8, 4, [4, 8, 16], 4)
    losses = model(torch.rand(2, 3, *SIZE), truth(), mode='loss')
    names = {key for key in losses if 'loss' in key}
    assert names == {
        *('loss_dice_focal', 'aux_1.loss_dice_focal', 'aux_2.loss_dice_focal'),
        *('auxiliary_head_0.loss_ce', 'auxiliary_head_1.loss_dice_focal'),
    }
    total_loss(losses).backward()
    assert_gradients(model)


def test_an_auxiliary_head_is_of_training_alone():
    """By its own loss on the same pyramid; the prediction and its cost are those of the model without it."""
    model = without_fusion(auxiliary_head=FCN).train()
    images, samples = torch.rand(2, 3, 32, 48), data_samples(2, 32, 48)
    loss = model(images, samples, mode='loss')['auxiliary_head.loss_ce']
    logits = model.auxiliary_head['auxiliary_head'](model.extract_feat(images))
    logits = torch.nn.functional.interpolate(logits, (32, 48), mode='bilinear')
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    # MMSegmentation divides by all pixels, those that are ignored counted in.
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255, reduction='sum') / labels.numel()
    torch.testing.assert_close(loss, expected)
    plain = without_fusion()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith('auxiliary_head')})
    torch.testing.assert_close(plain.eval()(images), model.eval()(images), rtol=0, atol=0)
    assert count_macs(on_meta(without_fusion), 64) == count_macs(
        on_meta(lambda: without_fusion(auxiliary_head=FCN)), 64
    )


@pytest.mark.parametrize(
    ('head', 'message'),
    [
        ({**FCN, 'in_index': 3}, 'in_index=3: the pyramid has 3 levels; give some of 0 to 2'),
        ({**FCN, 'num_classes': 3}, r'auxiliary_head.num_classes=3, that of decode_head is 4; leave it out'),
        (hover({'type': 'mmgfnuc.UNetHead'}), 'HoverHead does not learn classes from a pyramid alone'),
        (
            {'type': 'mmseg.SegformerHead', 'channels': 4},
            r'takes several levels, .* in_index=\[0, 1, 2\]',
        ),
        ({**FCN, 'type': 'FCNHead'}, "part of mmseg: write 'mmseg.FCNHead', or set default_scope = 'mmseg'"),
    ],
)
def test_auxiliary_heads_that_cannot_learn(head, message):
    with pytest.raises(UserError, match=message):
        without_fusion(decode_head=TYPES, auxiliary_head=head)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'backbone': {**RESNET, 'mean': 0.5, 'multiple': 64}, 'auxiliary_head': [FCN]}, None),
        ({'backbone': {**RESNET, 'meen': 0.5}}, "model.backbone.meen; ResNet has no 'meen'; near it: mean"),
        ({'backbone': {**RESNET, 'multiple': 'x'}}, "model.backbone.multiple='x': give a whole number"),
        ({'backbone': {**TIMM, 'mean': 0.5}}, "TimmBackbone has no 'mean'"),
        (
            {'auxiliary_head': [{**FCN, 'num_cons': 1}]},
            r'auxiliary_head.0.num_cons; FCNHead .* near it: num_convs',
        ),
    ],
)
def test_settings_are_checked_before_anything_is_built(changes, message):
    model = {'type': 'mmgfnuc.FusionSegmentor', 'backbone': BACKBONE, 'decode_head': TYPES} | changes
    if message is None:
        return check_model(Config({'model': model}))
    with pytest.raises(UserError, match=message):
        check_model(Config({'model': model}))
