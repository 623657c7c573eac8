"""Encoders of every kind, narrow and shallow, under the battery; what only one of them does has tests of its own."""

from mmgfnuc.models.foundation import find_entry
from mmgfnuc.testing import FoundationEncoderBattery

from .reduced import reduced


def part(name, **settings):
    return dict(type='mmgfnuc.foundation_encoder', name=name, arch=reduced(find_entry(name)), **settings)


class TestContract(FoundationEncoderBattery):
    parts = [
        part('dinov2-vit-s14-reg', out_layers=(0, 1)),
        part('eva02-clip-b16'),
        # Images are scaled to 80 pixels on the longer side.
        part('sam-vit-b', input_size=80, out_layers=(0, 'neck')),
        part('sam2-hiera-tiny', input_size=None),
        part('dinov3-convnext-tiny'),
    ]
