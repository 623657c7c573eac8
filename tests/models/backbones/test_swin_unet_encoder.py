import pytest
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.swin_unet_encoder import SwinUNetEncoder
from mmgfnuc.testing import BackboneBattery, fill_with_noise

SMALL = {'embed_dim': 8, 'depths': (2, 2, 1, 2), 'num_heads': (1, 2, 2, 4), 'drop_path_rate': 0.0}


class TestContract(BackboneBattery):
    # Windows of 7 are larger than the deep maps, windows of 3 smaller than most and no divisor of any.
    parts = [dict(type=SwinUNetEncoder, **SMALL, window_size=size) for size in (3, 7)]


def test_equals_timm_at_its_native_size():
    """Maps of 24, 12, 6 and 3 tokens are whole windows of 3; the last is one window, where timm does not shift."""
    official = SwinTransformer(
        img_size=96, num_classes=0, embed_dim=8, depths=(2, 2, 1, 2), num_heads=(1, 2, 2, 4), window_size=3
    )
    fill_with_noise(official, scale=0.3).eval()
    encoder = SwinUNetEncoder(**SMALL, window_size=3, mean=0.0, std=1.0).eval()
    encoder.swin.load_state_dict(official.state_dict(), strict=True)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        levels = encoder(images)
        expected = official.forward_intermediates(images, norm=True, intermediates_only=True)
        torch.testing.assert_close(levels, tuple(expected), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(levels[-1].permute(0, 2, 3, 1), official.forward_features(images))


def test_published_size():
    """The parameters of timm's Swin transformer with the depths of Swin-UNet, whatever the image size."""
    with torch.device('meta'):
        encoder = SwinUNetEncoder()
        official = SwinTransformer(depths=(2, 2, 2, 2), num_heads=(3, 6, 12, 24), num_classes=0)
    shapes = {name: value.shape for name, value in encoder.swin.state_dict().items()}
    assert shapes == {name: value.shape for name, value in official.state_dict().items()}
    assert encoder.out_channels == (96, 192, 384, 768)
    assert encoder.out_strides == (4, 8, 16, 32)


def test_drop_path_rises_to_its_rate():
    encoder = SwinUNetEncoder(**SMALL | {'drop_path_rate': 0.6})
    rates = [getattr(block.drop_path1, 'drop_prob', 0.0) for stage in encoder.swin.layers for block in stage.blocks]
    torch.testing.assert_close(rates, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_other_sizes_are_padded_by_the_border():
    """To whole pixels of the deepest level: Patch merging would pad with zeros."""
    encoder, images = SwinUNetEncoder(**SMALL).eval(), torch.rand(1, 3, 70, 90)
    padded = F.pad(images, (0, 6, 0, 26), mode='replicate')
    with torch.no_grad():
        for level, whole in zip(encoder(images), encoder(padded), strict=True):
            torch.testing.assert_close(level, whole[..., : level.shape[-2], : level.shape[-1]])


def test_initialised_once():
    encoder = SwinUNetEncoder(**SMALL)
    before = {name: parameter.clone() for name, parameter in encoder.named_parameters()}
    encoder.init_weights()
    torch.testing.assert_close(dict(encoder.named_parameters()), before, rtol=0, atol=0)
    assert not encoder.swin.layers[1].blocks[0].mlp.fc1.bias.any()
    assert encoder.swin.layers[2].blocks[0].mlp.fc1.weight.abs().max() <= 2.0
    assert 0.015 < encoder.swin.layers[2].blocks[0].mlp.fc1.weight.std() < 0.025


def test_lists_of_different_length():
    with pytest.raises(UserError, match=r'depths=\(2, 2\) has 2 levels, num_heads=\(1, 2, 4\) has 3'):
        SwinUNetEncoder(depths=(2, 2), num_heads=(1, 2, 4))
