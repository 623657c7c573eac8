import math

import pytest
import torch
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.u2net_encoder import U2NetEncoder
from mmgfnuc.testing import BackboneBattery

# The authors' encoder stages: (L, input, mid, output channels).
FULL = [(7, 3, 32, 64), (6, 64, 32, 128), (5, 128, 64, 256), (4, 256, 128, 512), (4, 512, 256, 512), (4, 512, 256, 512)]
SMALL = [(7, 3, 16, 64), (6, 64, 16, 64), (5, 64, 16, 64), *[(4, 64, 16, 64)] * 3]


class TestContract(BackboneBattery):
    parts = [
        dict(type=U2NetEncoder, widths=(4, 6, 8, 10, 12)[:levels], mid_widths=(2, 3, 4, 5, 6)[:levels])
        for levels in (2, 5)
    ]


@pytest.mark.parametrize('size', [(96, 96), (100, 140)])
def test_six_levels(size):
    encoder = U2NetEncoder(widths=(4, 4, 6, 6, 8, 8), mid_widths=(2,) * 6)
    assert encoder.out_strides == (1, 2, 4, 8, 16, 32)
    shapes = [level.shape[1:] for level in encoder(torch.rand(2, 3, *size))]
    widths_and_strides = zip((4, 4, 6, 6, 8, 8), encoder.out_strides, strict=True)
    assert shapes == [(width, math.ceil(size[0] / s), math.ceil(size[1] / s)) for width, s in widths_and_strides]


def rsu_parameters(height, entering, mid, leaving):
    """3x3 convolutions without bias and their norms: the entry, down (height - 1), the bottom, up (height - 1)."""
    down = [(leaving, mid)] + [(mid, mid)] * (height - 2)
    rise = [(2 * mid, mid)] * (height - 2) + [(2 * mid, leaving)]
    return sum(9 * a * b + 2 * b for a, b in [(entering, leaving), *down, (mid, mid), *rise])


@pytest.mark.parametrize(
    ('settings', 'table'), [({}, FULL), ({'widths': (64,) * 6, 'mid_widths': (16,) * 6}, SMALL)], ids=['full', 'small']
)
def test_published_stages(settings, table):
    """By hand from the authors' stages. (The published sum of the whole network is pinned with the head.)"""
    with torch.device('meta'):
        encoder = U2NetEncoder(**settings)
    counts = [sum(p.numel() for p in stage.parameters()) for stage in encoder.stages]
    assert counts == [rsu_parameters(*row) for row in table]
    assert [len(stage.down) + 1 for stage in encoder.stages] == [row[0] for row in table]
    assert [isinstance(stage.pool, nn.Identity) for stage in encoder.stages] == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'widths': (8,), 'mid_widths': (4,)}, 'a pyramid needs at least 2'),
        ({'mid_widths': (4, 4, 4)}, r'mid_widths=\(4, 4, 4\) has 3 entries for 2 widths; give one per level'),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        U2NetEncoder(**{'widths': (8, 8), 'mid_widths': (4, 4)} | settings)
