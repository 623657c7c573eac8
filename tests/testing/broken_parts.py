"""Parts as people write them: sound ones, and for each contract some that break one rule of it.

Run by test_batteries.py, which compares what fails with `fails`; the file is no test by its name.
"""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from mmgfnuc.models.backbones import Backbone
from mmgfnuc.models.foundation import Entry, FoundationEncoder
from mmgfnuc.models.necks import FusionBlock
from mmgfnuc.testing import (
    BackboneBattery,
    FoundationEncoderBattery,
    FusionBlockBattery,
)


def conv(shallow, deep, stride=1):
    return nn.Sequential(nn.Conv2d(shallow, deep, 3, stride, 1), nn.BatchNorm2d(deep), nn.SiLU())


class Encoder(Backbone):
    strides = (1, 2)

    def __init__(self, in_channels=3):
        super().__init__(in_channels, (4, 6), self.strides)
        self.first, self.second = conv(in_channels, 4), conv(4, 6, 2)

    def encode(self, images):
        shallow = self.first(images)
        return shallow, self.second(shallow)


class OfSmallerStride(Encoder):
    strides = (1, 4)


class Mirrored(Encoder):
    def encode(self, images):
        shallow, deep = super().encode(images)
        return shallow, deep.flip(-1)


class Unused(Encoder):
    def __init__(self, in_channels=3):
        super().__init__(in_channels)
        self.third = conv(6, 8)


class InAList(Encoder):
    def __init__(self, in_channels=3):
        super().__init__(in_channels)
        self.more = [nn.Conv2d(6, 6, 1)]

    def encode(self, images):
        shallow, deep = super().encode(images)
        return shallow, self.more[0](deep)


class OfTheBatch(Encoder):
    def encode(self, images):
        return super().encode(images - images.mean(0))


class InPlace(Encoder):
    def forward(self, images):
        return super().forward(images.sub_(0.5))


class TestBackbones(BackboneBattery):
    parts = [dict(type=part) for part in (Encoder, OfSmallerStride, Mirrored, Unused, InAList, OfTheBatch, InPlace)]
    fails = {
        'OfSmallerStride': {'test_levels_are_not_larger_than_the_image'},
        'Mirrored': {'test_levels_lie_over_their_pixels'},
        'Unused': {'test_every_parameter_gets_a_gradient'},
        'InAList': {'test_state_dict_round_trip'},
        'OfTheBatch': {'test_evaluation_is_deterministic_and_image_by_image'},
        'InPlace': {'test_images_are_not_changed'},
    }


class Patches(FoundationEncoder):
    """A patch embedding, a norm and a linear layer."""

    def build(self, entry, arch, out_layers):
        self.network = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1))
        self.out_layers, self.out_channels, self.out_strides = [0], (8,), (entry.patch,)

    def load_file(self, path):
        self.network.load_state_dict(load_file(path))

    def prune(self):
        pass

    def use_grad_checkpointing(self):
        pass

    num_layers = 3

    def layer_of(self, parameter):
        return int(parameter.split('.')[0])

    def encode(self, images):
        bottom, right = (-side % 8 for side in images.shape[-2:])
        return (self.network(F.pad(images, (0, right, 0, bottom), mode='replicate')),)


class Thawing(Patches):
    def train(self, mode=True):
        return nn.Module.train(self, mode)


class Transposed(Patches):
    def encode(self, images):
        (tokens,) = super().encode(images)
        return (tokens.flatten(2).unflatten(2, tokens.shape[:1:-1]).mT.contiguous(),)


class Reinitialised(Patches):
    def init_weights(self):
        nn.init.normal_(self.network[0].weight)


class Apart(Patches):
    """With a parameter that is not of its network."""

    def build(self, entry, arch, out_layers):
        super().build(entry, arch, out_layers)
        self.scale = nn.Parameter(torch.ones(1))

    def encode(self, images):
        return tuple(self.scale * feature for feature in super().encode(images))


class OfAnyChannels(Patches):
    def forward(self, images):
        return super().forward(images[:, [0, 0, 0]])


class Dropping(Patches):
    def encode(self, images):
        return tuple(F.dropout(feature, 0.1) for feature in super().encode(images))


def entry(patch=8):
    known = dict(name='patches', family='Own', arch='patches', width=8, depth=3, layers=(0,), native_size=64)
    known |= dict(mean=(0.5,) * 3, std=(0.5,) * 3, resampling=None, licence=None, non_commercial=None, gated=None)
    return Entry(patch=patch, citation='', sources=(), hub=None, file=None, address=None, **known)


class TestFoundation(FoundationEncoderBattery):
    parts = [
        *(dict(type=part, entry=entry()) for part in (Patches, Thawing, Transposed, Reinitialised, Apart)),
        *(dict(type=part, entry=entry()) for part in (OfAnyChannels, Dropping)),
    ]
    fails = {
        'Thawing': {'test_frozen_stays_as_it_is'},
        'Transposed': {'test_features_lie_over_their_pixels'},
        'Reinitialised': {'test_initialisation_keeps_the_weights'},
        'Apart': {'test_frozen_weights_of_a_file_are_not_saved'},
        'OfAnyChannels': {'test_images_that_are_not_rgb_are_refused'},
        'Dropping': {'test_evaluation_is_deterministic_and_image_by_image', 'test_cache_gives_the_same_features'},
    }


class TestFoundationOfSmallerStride(FoundationEncoderBattery):
    part = dict(type=Patches, entry=entry(16))
    fails = {'Patches': {'test_features_are_not_larger_than_the_image'}}


class Film(FusionBlock):
    def __init__(self, in_channels, context_channels, attention=False, max_keys=None):
        super().__init__()
        self.project = nn.Conv2d(context_channels, 2 * in_channels, 1)

    def forward(self, local, context, step=None):
        scale, shift = self.project(context).chunk(2, dim=1)
        return local * (1 + scale) + shift


class AddingInPlace(Film):
    def forward(self, local, context, step=None):
        return local.add_(self.project(context).chunk(2, dim=1)[1])


class OfEvenSize(Film):
    def forward(self, local, context, step=None):
        return F.interpolate(F.avg_pool2d(super().forward(local, context), 2, ceil_mode=True), scale_factor=2)


class WithoutStep(Film):
    def forward(self, local, context):
        return super().forward(local, context)


class Detaching(Film):
    def forward(self, local, context, step=None):
        return super().forward(local, context.detach())


class Forgetful(Film):
    """With an average over the features of training that no checkpoint holds."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer('average', torch.rand(1), persistent=False)

    def forward(self, local, context, step=None):
        return super().forward(local, context) + self.average


class Frozen(Film):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, local, context, step=None):
        return super().forward(local, context) * (1 + self.gate.detach())


class ExplainingWithDropout(Film):
    def explain(self, local, context, step=None):
        self.eval()
        return {'gate': F.dropout(self.project(context).mean((2, 3)), 0.5)}


class TestFusion(FusionBlockBattery):
    parts = [
        dict(type=part)
        for part in (Film, AddingInPlace, OfEvenSize, WithoutStep, Detaching, Forgetful, Frozen, ExplainingWithDropout)
    ]
    fails = {
        'AddingInPlace': {'test_inputs_are_not_changed'},
        'OfEvenSize': {'test_shapes'},
        'WithoutStep': {'test_works_in_the_neck'},
        'Detaching': {'test_gradients_reach_what_it_fuses'},
        'Forgetful': {'test_state_dict_round_trip'},
        'Frozen': {'test_every_parameter_gets_a_gradient_by_the_second_step'},
        'ExplainingWithDropout': {'test_explains_in_the_documented_shapes', 'test_explaining_changes_nothing'},
    }
