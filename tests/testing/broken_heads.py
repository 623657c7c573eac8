"""Decode heads, heads for nuclei and losses as people write them, sound and broken; see broken_parts.py."""

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

from mmgfnuc.models.decode_heads import HoverHead
from mmgfnuc.models.decode_heads.base import PyramidDecodeHead
from mmgfnuc.testing import (
    AuxiliaryLossBattery,
    DecodeHeadBattery,
    InstanceHeadBattery,
    LossBattery,
)


class Head(PyramidDecodeHead):
    """All levels at the size of the first, in a 1x1 convolution."""

    def __init__(self, in_channels, **kwargs):
        super().__init__(in_channels, sum(in_channels), **kwargs)

    def levels(self, inputs):
        return inputs

    def forward(self, inputs):
        levels = self.levels(inputs)
        return self.cls_seg(torch.cat([F.interpolate(level, levels[0].shape[2:]) for level in levels], dim=1))


class WithoutTheFirst(Head):
    def levels(self, inputs):
        return [0 * inputs[0], *inputs[1:]]


class AtHalfSize(Head):
    def forward(self, inputs):
        return F.avg_pool2d(super().forward(inputs), 2)


class OfTwoClasses(Head):
    def __init__(self, in_channels, num_classes=2, **kwargs):
        super().__init__(in_channels, **kwargs)


class Normalising(Head):
    """By the statistics of the batch, in evaluation mode too."""

    def levels(self, inputs):
        return [F.batch_norm(level, None, None, training=True) for level in inputs]


class TestHeads(DecodeHeadBattery):
    parts = [dict(type=part) for part in (Head, WithoutTheFirst, AtHalfSize, OfTwoClasses, Normalising)]
    fails = {
        'WithoutTheFirst': {'test_every_level_counts'},
        'AtHalfSize': {'test_shapes', 'test_given_strides'},
        'OfTwoClasses': {'test_number_of_classes'},
        'Normalising': {'test_evaluation_is_deterministic_and_image_by_image'},
    }


class LeavingLogits(HoverHead):
    def activate(self, maps):
        return maps.float()


class OfPieces(HoverHead):
    def nuclei(self, foreground, auxiliary, mpp):
        return ndimage.label(foreground.numpy() > 0.5)[0]


class LearningFromAll(HoverHead):
    """The ignored pixels of the auxiliary map too."""

    def _losses(self, inputs, samples, train_cfg):
        losses = super()._losses(inputs, samples, train_cfg)
        difference = self.auxiliary_decoder(inputs) - self._truth(samples)
        return losses | {'loss_more': difference.square().mean()}


class TestInstanceHeads(InstanceHeadBattery):
    parts = [dict(type=part) for part in (HoverHead, LeavingLogits, OfPieces, LearningFromAll)]
    fails = {
        'LeavingLogits': {'test_maps_and_probabilities'},
        'OfPieces': {'test_nuclei_of_perfect_maps'},
        'LearningFromAll': {'test_ignored_pixels_teach_nothing'},
    }


class CrossEntropy(nn.Module):
    loss_name = 'loss_own'

    def of_pixels(self, logits, target):
        return F.cross_entropy(logits.float(), target, ignore_index=255, reduction='none')

    def forward(self, logits, target, weight=None, ignore_index=255):
        return self.of_pixels(logits, target).sum() / (target != ignore_index).sum().clamp(min=1)


class DividingByZero(CrossEntropy):
    def forward(self, logits, target, weight=None, ignore_index=255):
        return F.cross_entropy(logits.float(), target, ignore_index=ignore_index)


class CountingIgnored(CrossEntropy):
    def of_pixels(self, logits, target):
        return F.cross_entropy(logits.float(), target.where(target != 255, 0), reduction='none')


class Rewarding(CrossEntropy):
    def of_pixels(self, logits, target):
        return -super().of_pixels(logits, target)


class WeighingByPlace(CrossEntropy):
    def of_pixels(self, logits, target):
        return super().of_pixels(logits, target) * torch.arange(1, len(target) + 1)[:, None, None]


class InHalfPrecision(CrossEntropy):
    """One minus the probabilities of the other classes, which round to one."""

    def of_pixels(self, logits, target):
        others = 1 - F.one_hot(target.where(target != 255, 0), logits.shape[1]).movedim(-1, 1)
        losses = -(1 - (logits.softmax(1) * others).sum(1)).log()
        return losses.where(target != 255, 0)


class OfNoName(CrossEntropy):
    loss_name = 'cross_entropy'


class WithoutWeight(CrossEntropy):
    def forward(self, logits, target, ignore_index=255):
        return super().forward(logits, target, None, ignore_index)


class TestLosses(LossBattery):
    parts = [
        dict(type=part)
        for part in (CrossEntropy, DividingByZero, CountingIgnored, Rewarding, WeighingByPlace, InHalfPrecision)
    ] + [dict(type=part) for part in (OfNoName, WithoutWeight)]
    fails = {
        'DividingByZero': {'test_a_batch_of_ignored_pixels_costs_nothing'},
        'CountingIgnored': {'test_ignored_pixels_do_not_matter', 'test_a_batch_of_ignored_pixels_costs_nothing'},
        'Rewarding': {'test_a_right_prediction_costs_less'},
        'WeighingByPlace': {'test_the_order_of_the_batch_does_not_matter'},
        'InHalfPrecision': {'test_finite_in_bfloat16'},
        'OfNoName': {'test_has_a_name_that_is_trained_on'},
        'WithoutWeight': {'test_is_a_finite_number_with_a_finite_gradient'},
    }


class Squared(nn.Module):
    loss_name = 'loss_squared'

    def forward(self, prediction, truth, classes, ignore_index=255):
        valid = (classes != ignore_index).expand_as(truth)
        return ((prediction.float() - truth) ** 2 * valid).sum() / valid.sum().clamp(min=1)


class OfAllPixels(Squared):
    def forward(self, prediction, truth, classes, ignore_index=255):
        return F.mse_loss(prediction.float(), truth)


class Blurring(Squared):
    """Ignored pixels reach their neighbours."""

    def forward(self, prediction, truth, classes, ignore_index=255):
        return super().forward(F.avg_pool2d(prediction, 3, 1, 1), F.avg_pool2d(truth, 3, 1, 1), classes, ignore_index)


class TestAuxiliaryLosses(AuxiliaryLossBattery):
    target = HoverHead.target
    parts = [dict(type=part) for part in (Squared, OfAllPixels, Blurring)]
    fails = {
        'OfAllPixels': {
            'test_ignored_pixels_do_not_matter',
            'test_a_batch_of_ignored_pixels_costs_nothing',
            'test_the_truth_of_ignored_pixels_does_not_matter',
        },
        'Blurring': {'test_ignored_pixels_do_not_matter', 'test_the_truth_of_ignored_pixels_does_not_matter'},
    }
