import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.transunet_encoder import TransUNetEncoder
from mmgfnuc.testing import BackboneBattery, fill_with_noise

SMALL = {
    'stem_channels': 8,
    'stage_channels': (16, 24, 32),
    'stage_depths': (1, 2, 1),
    'norm_groups': 4,
    'embed_dim': 12,
    'depth': 2,
    'num_heads': 3,
}


class TestContract(BackboneBattery):
    parts = [dict(type=TransUNetEncoder, **SMALL, image_size=size) for size in (32, 224)]


def official(**settings):
    """timm's hybrid, whose class token the authors of TransUNet leave out."""
    return timm.create_model('vit_base_r50_s16_224', num_classes=0, class_token=False, global_pool='', **settings)


def test_equals_timm_at_its_native_size():
    """With the whole ResNet and a narrow transformer."""
    torch.manual_seed(0)
    narrow = {'embed_dim': 24, 'depth': 2, 'num_heads': 2}
    hybrid = official(**narrow, img_size=64).eval()
    encoder = TransUNetEncoder(**narrow, image_size=64, mean=0.0, std=1.0).eval()
    resnet = hybrid.patch_embed.backbone
    fill_with_noise(hybrid.blocks)
    encoder.cnn.load_state_dict(resnet.state_dict(), strict=True)
    names = ((name.replace('.backbone.', '.cnn.'), value) for name, value in hybrid.state_dict().items())
    encoder.vit.load_state_dict({name: value for name, value in names if '.cnn.' not in name}, strict=True)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        *skips, deepest = encoder(images)
        stem, stage1, stage2, _ = resnet.forward_intermediates(images, intermediates_only=True)
        torch.testing.assert_close(skips, [stem, stage1, stage2])
        torch.testing.assert_close(deepest.flatten(2).transpose(1, 2), hybrid.forward_features(images))


def test_published_size():
    """timm's own count at 224 pixels: 97,888,576, which is also what the authors' code has before its decoder."""
    with torch.device('meta'):
        encoder, hybrid = TransUNetEncoder(), official()
    expected = sum(p.numel() for p in hybrid.parameters())
    assert sum(p.numel() for p in encoder.parameters()) == expected == 97_888_576
    assert encoder.out_channels == (64, 256, 512, 768)
    assert encoder.out_strides == (2, 4, 8, 16)


def test_position_embedding_follows_the_grid():
    """An image of 48x80 pixels sees the embedding of 2x2 resampled to 3x5."""
    encoder = TransUNetEncoder(**SMALL, image_size=32).eval()
    seen = []
    encoder.vit.pos_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder.vit.patch_embed.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        encoder(torch.rand(1, 3, 48, 80))
        patches, embedded = seen
        expected = resample_abs_pos_embed(encoder.vit.pos_embed, (3, 5), (2, 2), num_prefix_tokens=0)
    torch.testing.assert_close(embedded - patches.flatten(1, 2), expected)


def test_other_sizes_are_padded_by_the_border():
    """To whole pixels of the deepest level: `same` padding would pad with zeros, and where depends on the size."""
    encoder, images = TransUNetEncoder(**SMALL, dropout=0.0).eval(), torch.rand(1, 3, 70, 90)
    padded = F.pad(images, (0, 6, 0, 10), mode='replicate')
    with torch.no_grad():
        for level, whole in zip(encoder(images), encoder(padded), strict=True):
            torch.testing.assert_close(level, whole[..., : level.shape[-2], : level.shape[-1]])


def test_initialised_once():
    encoder = TransUNetEncoder(**SMALL)
    before = {name: parameter.clone() for name, parameter in encoder.named_parameters()}
    encoder.init_weights()
    torch.testing.assert_close(dict(encoder.named_parameters()), before, rtol=0, atol=0)
    assert encoder.cnn.stages[0].blocks[0].norm3.weight.all()


def test_dropout_reaches_the_transformer():
    encoder, images = TransUNetEncoder(**SMALL, dropout=0.5), torch.rand(1, 3, 32, 32)
    assert not torch.equal(encoder(images)[-1], encoder(images)[-1])
    still = TransUNetEncoder(**SMALL, dropout=0.0)
    torch.testing.assert_close(still(images), still(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'num_heads': 5}, 'embed_dim=12 is not a multiple of num_heads=5'),
        ({'stage_depths': (1, 1)}, r'stage_channels=\(16, 24, 32\) has 3 stages, stage_depths=\(1, 1\) has 2'),
        ({'stem_channels': 12}, 'stem_channels: 12 must be a multiple of 8 and of norm_groups=4'),
        ({'norm_groups': 16}, 'stem_channels: 8 must be a multiple of 8 and of norm_groups=16'),
        ({'image_size': 250}, 'image_size=250 is not a multiple of 16'),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        TransUNetEncoder(**SMALL | settings)
