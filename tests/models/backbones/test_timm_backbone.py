import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.timm_backbone import TimmBackbone
from mmgfnuc.models.decode_heads import UNetHead
from mmgfnuc.testing import BackboneBattery, assert_gradients, fill_with_noise

SWIN = {'embed_dim': 8, 'depths': (2, 2, 2, 1), 'num_heads': (1, 2, 2, 4), 'drop_path_rate': 0.0}
# timm's own small models, and real architectures at small width.
SMALL = {
    # timm starts the last norm of each residual block at zero: what is before it would have no gradient at first.
    'test_resnet': {'zero_init_last': False},
    'test_efficientnet': {},
    'test_mambaout': {},
    'convnext_atto': {'depths': (1, 1, 1, 1), 'dims': (4, 6, 8, 10)},
    'swin_tiny_patch4_window7_224': SWIN,
    'densenet121': {'growth_rate': 4, 'block_config': (1, 2, 1, 1)},
}


class TestContract(BackboneBattery):
    parts = [
        *(
            dict(type=TimmBackbone, model_name=name, arch=SMALL[name])
            for name in ('test_resnet', 'convnext_atto', 'swin_tiny_patch4_window7_224', 'densenet121')
        ),
        dict(type=TimmBackbone, model_name='test_efficientnet', out_indices=(1, 3), image_level=True),
    ]


@pytest.fixture
def weight_file(weights_folder):
    """Saves timm's own model, classifier and all, as noise in the weights folder, and gives the path."""

    def save(name, arch):
        path = weights_folder / f'{name}.safetensors'
        save_file(fill_with_noise(timm.create_model(name, **arch), scale=0.3).state_dict(), path)
        return path

    return save


@pytest.mark.parametrize('name', SMALL)
@torch.no_grad()
def test_equals_features_only_of_timm_with_the_same_file(name, weight_file):
    """timm itself loads the file into its own wrapper, at the image size that the model was made for."""
    path = weight_file(name, SMALL[name])
    official = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay={'file': str(path)}, features_only=True, **SMALL[name]
    ).eval()
    backbone = TimmBackbone(name, weights=name, arch=SMALL[name]).eval()
    images = torch.rand(1, 3, 224, 224)
    expected = official(backbone.normalize(images))
    if getattr(official, 'output_fmt', 'NCHW') == 'NHWC':
        expected = [level.permute(0, 3, 1, 2) for level in expected]
    assert backbone.out_channels == tuple(official.feature_info.channels())
    assert backbone.out_strides == tuple(official.feature_info.reduction())
    assert all(level.std() > 1e-3 for level in expected)
    # Another layout of memory adds up in another order.
    torch.testing.assert_close(backbone(images), tuple(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ('name', 'mean', 'std'),
    [
        ('test_resnet', (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ('test_efficientnet', (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_mean_and_std_are_those_of_the_entry_for_rgb(name, mean, std):
    normalize = TimmBackbone(name).normalize
    torch.testing.assert_close(normalize.mean.flatten(), torch.tensor(mean))
    torch.testing.assert_close(normalize.std.flatten(), torch.tensor(std))
    for buffer in TimmBackbone(name, in_channels=4).normalize.buffers():
        torch.testing.assert_close(buffer.flatten(), torch.tensor([0.5]))


@pytest.mark.parametrize('name', ['resnet34', 'convnext_tiny', 'swin_tiny_patch4_window7_224'])
def test_parameters_are_those_of_timm_without_the_end(name):
    """timm's model, less its classifier and, where the levels come before it, its last norm."""
    with torch.device('meta'):
        official = timm.create_model(name)
        backbone = TimmBackbone(name)
    parts = [official.get_classifier()]
    parts += [official.head.norm] if name.startswith('convnext') else []
    parts += [official.norm] if name.startswith('swin') else []
    total, left_out = (sum(p.numel() for m in modules for p in m.parameters()) for modules in ([official], parts))
    assert sum(p.numel() for p in backbone.parameters()) == total - left_out


@pytest.mark.parametrize(
    ('name', 'out_indices', 'channels', 'strides'),
    [
        ('resnet34', None, (64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
        ('resnet34', (1, 3), (64, 256), (4, 16)),
        ('csatv2', None, (32, 72, 168, 386), (8, 16, 32, 64)),
        ('densenet121', (0, 1, 2, 3), (64, 256, 512, 1024), (2, 4, 8, 16)),
    ],
)
def test_levels(name, out_indices, channels, strides):
    """Of two levels of one stride, as CSATv2 has them, the deeper one; the padding follows the deepest of the model."""
    with torch.device('meta'):
        backbone = TimmBackbone(name, out_indices=out_indices)
    assert backbone.out_channels == channels
    assert backbone.out_strides == strides
    assert backbone.multiple == (64 if name == 'csatv2' else 32)


def test_image_level_is_the_normalised_image():
    backbone = TimmBackbone('test_efficientnet', in_channels=4, image_level=True).eval()
    images = torch.rand(1, 4, 50, 70)
    image, *levels = backbone(images)
    torch.testing.assert_close(image, (images - 0.5) / 0.5)
    assert backbone.out_channels == (4, 16, 24, 32, 48, 64)
    assert backbone.out_strides == (1, 2, 4, 8, 16, 32)
    plain = TimmBackbone('test_efficientnet', in_channels=4).eval()
    plain.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(tuple(levels), plain(images))


def test_images_are_padded_and_levels_cropped():
    """By hand: the last row and column are repeated up to the deepest stride, 32."""
    backbone = TimmBackbone('test_resnet').eval()
    images = torch.rand(1, 3, 50, 70)
    padded = backbone(F.pad(images, (0, 26, 0, 14), mode='replicate'))
    sizes = [(25, 35), (13, 18), (7, 9), (4, 5), (2, 3)]
    expected = tuple(level[:, :, :rows, :columns] for level, (rows, columns) in zip(padded, sizes, strict=True))
    torch.testing.assert_close(backbone(images), expected)


def test_windows_shift_at_sizes_that_are_no_multiple_of_them():
    """Swin's windows of 7x7 tokens at a grid of 24x24: shifted ones let neighbours of another window be seen."""
    backbone = fill_with_noise(TimmBackbone('swin_tiny_patch4_window7_224', arch=SWIN), 0.3).eval()
    images = torch.rand(1, 3, 96, 96).requires_grad_()
    backbone(images)[0][0, :, 0, 0].sum().backward()
    reach = images.grad.abs().sum((0, 1)).nonzero().amax(0)
    # The first block sees tokens 0 to 6, the second, shifted by 3, tokens 0 to 2 and what they saw of 3 to 6.
    assert reach.tolist() == [27, 27]
    images.grad = None
    backbone(images)[0][0, :, 4, 4].sum().backward()
    reach = images.grad.abs().sum((0, 1)).nonzero().amax(0)
    # Token 4 shares its shifted window, 3 to 9, with tokens of the next window, 7 to 13.
    assert reach.tolist() == [55, 55]


def test_a_model_bound_to_one_size_sees_tiles_of_it():
    """MaxViT made for 160 pixels, on 100x300: by hand, the padded image is two tiles, side by side."""
    backbone = fill_with_noise(TimmBackbone('test_maxvit'), 0.3).eval()
    assert backbone.tile == backbone.multiple == 160
    images = torch.rand(2, 3, 100, 300)
    padded = F.pad(images, (0, 20, 0, 60), mode='replicate')
    with torch.no_grad():
        left, right = (
            backbone.model.forward_intermediates(backbone.normalize(padded[..., x : x + 160]), intermediates_only=True)
            for x in (0, 160)
        )
        for level, stride, *halves in zip(backbone(images), backbone.out_strides, left, right, strict=True):
            whole = torch.cat(halves, 3)
            torch.testing.assert_close(
                level, whole[..., : -(-100 // stride), : -(-300 // stride)], rtol=1e-4, atol=1e-4
            )


def test_the_tile_is_the_size_that_the_model_is_built_for():
    with torch.device('meta'):
        backbone = TimmBackbone('maxvit_tiny_rw_224', arch={'img_size': 256})
    assert backbone.tile == 256


@pytest.mark.parametrize(
    'name', ['inception_v4', pytest.param('nasnetalarge', marks=pytest.mark.slow), 'legacy_xception']
)
def test_models_that_do_not_pad_are_made_to(name):
    """With the parameters of timm's model, and a pixel of level i for every stride[i] pixels of the image."""
    with torch.device('meta'):
        backbone = TimmBackbone(name)
        official = timm.create_model(name, features_only=True, out_indices=(0, 1, 2, 3, 4))
        pyramid = backbone(torch.empty(1, 3, 128, 192))
    assert backbone.tile is None
    assert sum(p.numel() for p in backbone.parameters()) == sum(p.numel() for p in official.parameters())
    assert [tuple(level.shape[2:]) for level in pyramid] == [(128 // s, 192 // s) for s in (2, 4, 8, 16, 32)]


@pytest.mark.parametrize(
    ('name', 'arch'),
    [
        ('resnet18', {'zero_init_last': False}),
        ('efficientnet_b0', {}),
        ('convnext_atto', {}),
        ('swin_tiny_patch4_window7_224', SWIN),
        ('densenet121', SMALL['densenet121']),
    ],
)
def test_under_the_decoder_of_unet(name, arch):
    """Forward and backward at a size that no level divides."""
    backbone = TimmBackbone(name, arch=arch)
    head = UNetHead(backbone.out_channels)
    logits = head(backbone(torch.rand(2, 3, 61, 45)))
    stride = backbone.out_strides[0]
    assert logits.shape == (2, 2, -(-61 // stride), -(-45 // stride))
    logits.square().mean().backward()
    assert_gradients(nn.ModuleList([backbone, head]))


def test_loaded_weights_survive_the_initialisation_of_mmengine(weight_file):
    path = weight_file('test_resnet', {})
    backbone = TimmBackbone('test_resnet', weights=str(path))
    backbone.init_weights()
    state = load_file(path)
    assert all(torch.equal(value, state[key]) for key, value in backbone.model.state_dict().items())


def test_without_weights_two_backbones_differ():
    first, second = (TimmBackbone('test_resnet').model.conv1[0].weight for _ in range(2))
    assert not torch.equal(first, second)


class WithoutFeatures(nn.Module):
    def __init__(self, *, dynamic_img_size=True, **_):
        super().__init__()


def test_a_model_without_features(monkeypatch):
    monkeypatch.setattr(timm, 'create_model', lambda name, **settings: WithoutFeatures(**settings))
    with pytest.raises(UserError, match=r"timm's 'resnet18' .*gives no intermediate features; take .* pyramid"):
        TimmBackbone('resnet18')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'model_name': 'resnet_34'}, r"backbone\.model_name='resnet_34' is unknown; did you mean resnet34\?"),
        ({'model_name': 'resnet34.a1_in1'}, "'resnet34.a1_in1' is unknown; did you mean .*resnet34.a1_in1k"),
        ({'model_name': 'vit_tiny_patch16_224'}, 'levels of stride 16 .*, with strides that grow; .*timm:vit_tiny'),
        ({'model_name': 'vit_tiny_patch16_224', 'out_indices': (3, 7)}, 'levels of stride 16, 16'),
        ({'out_indices': (2,)}, r'levels of stride 8 \(pixels\): a pyramid needs at least two'),
        ({'model_name': 'dla34', 'image_level': True}, 'levels of stride 1, 1, 2, 4, 8, 16, 32'),
        ({'out_indices': (0, 5)}, r'out_indices=\(0, 5\): give some of 0 to 4, the levels of test_resnet, each once'),
        ({'out_indices': (1, 1)}, 'ascending'),
        ({'out_indices': (-2, -1)}, 'give some of 0 to 4'),
        ({'model_name': 'crossvit_tiny_240'}, "'crossvit_tiny_240' gives no pyramid to build on: .*; take other"),
        ({'model_name': 'tresnet_m'}, r'no pyramid to build on: \[.*\] for 32x64 pixels, not \[.*\]; take other'),
        (
            {'model_name': 'hrnet_w18_small', 'out_indices': (0, 1)},
            r'parameters, such as .*, reach none of out_indices=\(0, 1\): add the levels left out',
        ),
        ({'arch': {'deep': 3}}, r"does not take arch=\{'deep': 3\}: .*unexpected keyword"),
        (
            {'weights': 'no_such_file'},
            r'model.backbone.weights.*https://huggingface.co/timm/test_resnet.* or set model.backbone.weights=None',
        ),
    ],
)
def test_errors(settings, message, weights_folder):
    with pytest.raises(UserError, match=message) as error:
        TimmBackbone(**{'model_name': 'test_resnet'} | settings)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            {'model_name': 'test_efficientnet'},
            'does not fit the encoder .*model.backbone.weights.*: it lacks conv_stem',
        ),
        ({'in_channels': 4}, r'it has conv1.0.weight as \(16, 3, 3, 3\), the model as \(16, 4, 3, 3\)'),
    ],
)
def test_a_file_that_does_not_fit(settings, message, weight_file):
    path = weight_file('test_resnet', {})
    with pytest.raises(UserError, match=message):
        TimmBackbone(**{'model_name': 'test_resnet', 'weights': str(path)} | settings)
