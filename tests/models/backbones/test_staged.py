"""Backbones that can be run level by level: what comes after a level takes its place."""

import pytest
import torch

from mmgfnuc.models.backbones import ResidualUNetEncoder, StagedBackbone, U2NetEncoder, UNetEncoder, UNeXtEncoder

ENCODERS = {
    'unet': lambda: UNetEncoder(widths=(4, 6, 8)),
    'blurred': lambda: UNetEncoder(widths=(4, 6, 8), activation='glu', downsampling='max_blur_pool'),
    'residual': lambda: ResidualUNetEncoder(widths=(4, 6, 8)),
    'u2net': lambda: U2NetEncoder(widths=(4, 6, 8), mid_widths=(2, 2, 2)),
    'unext': lambda: UNeXtEncoder(widths=(4, 6, 8)),
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return ENCODERS[request.param]().eval()


@torch.no_grad()
def test_sees_every_level_at_its_size(encoder):
    images, seen = torch.rand(2, 3, 41, 50), []

    def after_level(level, x):
        seen.append((level, x))
        return x

    pyramid = encoder(images, after_level)
    assert isinstance(encoder, StagedBackbone)
    assert isinstance(pyramid, tuple)
    assert [level for level, _ in seen] == [0, 1, 2]
    for made, (_, x), alone in zip(pyramid, seen, encoder(images), strict=True):
        assert torch.equal(made, x)
        assert torch.equal(made, alone)


@torch.no_grad()
@pytest.mark.parametrize('changed', [0, 1, 2])
def test_what_takes_the_place_of_a_level_feeds_the_next(encoder, changed):
    images = torch.rand(1, 3, 32, 48)
    alone = encoder(images)
    pyramid = encoder(images, lambda level, x: -2 * x if level == changed else x)
    for level, (made, before) in enumerate(zip(pyramid, alone, strict=True)):
        if level < changed:
            assert torch.equal(made, before)
        elif level == changed:
            assert torch.equal(made, -2 * before)
        else:
            assert torch.equal(made, encoder.encode_level(level, pyramid[level - 1]))
            assert not torch.allclose(made, before)
