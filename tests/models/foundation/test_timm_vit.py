import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.testing import assert_gradients, fill_with_noise

NAME = 'vit_tiny_patch16_224'


def build(name=NAME, **settings):
    """Of a timm name."""
    return foundation_encoder(f'timm:{name}', **{'weights': 'random'} | settings)


@pytest.fixture
def official(weights_folder):
    """timm's own model, classifier and all, whose noise lies in the weights folder."""
    model = fill_with_noise(timm.create_model(NAME)).eval()
    save_file(model.state_dict(), weights_folder / f'{NAME}.safetensors')
    return model


@torch.no_grad()
def test_equals_timm(official):
    images = torch.rand(2, 3, 224, 224)
    encoder = build(weights=NAME, out_layers=(-1, 2, 7))
    features = encoder(images)
    normalised = (images - 0.5) / 0.5
    expected = official.get_intermediate_layers(normalised, n=[2, 7, 11], reshape=True, norm=True)
    assert encoder.out_channels == (192,) * 3
    torch.testing.assert_close(features, tuple(expected))
    tokens = official.forward_features(normalised)[:, 1:]
    torch.testing.assert_close(features[-1], tokens.mT.unflatten(2, (14, 14)))


def test_input_size():
    encoder = build(arch=SMALL, out_layers=(0,), input_size=64)
    assert encoder.grid_size(30, 60) == (2, 4)
    assert encoder(torch.rand(1, 3, 30, 60))[0].shape == (1, 24, 2, 4)


SMALL = {'embed_dim': 24, 'depth': 3, 'num_heads': 3}


@pytest.mark.parametrize(
    ('name', 'patch'),
    [
        (NAME, 16),
        ('vit_small_patch14_reg4_dinov2', 14),
        ('vit_base_patch32_clip_224', 32),
        ('eva02_tiny_patch14_224', 14),
    ],
)
@torch.no_grad()
def test_another_size_of_the_architecture(name, patch):
    encoder = build(name, out_layers=(0, -1), arch=SMALL)
    assert encoder.out_channels == (24, 24)
    assert len(encoder.network.blocks) == 3
    images = torch.rand(2, 3, 2 * patch, 4 * patch)
    official = timm.create_model(name, num_classes=0, dynamic_img_size=True, **SMALL).eval()
    keys = official.load_state_dict(encoder.network.state_dict(), strict=False)
    # The norm of pooled features goes with the classifier.
    assert not keys.unexpected_keys
    assert all(key.startswith('fc_norm') for key in keys.missing_keys)
    expected = official.forward_intermediates(encoder.normalize(images), indices=[0, 2], norm=True)[1]
    torch.testing.assert_close(encoder(images), tuple(expected))
    assert expected[0].shape == (2, 24, 2, 4)


@pytest.mark.parametrize('channels', [1, 4, 6])
def test_images_are_rgb(channels):
    with pytest.raises(UserError, match=f"'timm:{NAME}' takes RGB images, 3 channels, not {channels}; give such"):
        build(arch=SMALL)(torch.rand(1, channels, 32, 32))


@pytest.mark.parametrize(('out_layers', 'depth'), [((1, 3), 4), ((0,), 1), ((-12, -11), 2), ((-1,), 12)])
@pytest.mark.parametrize('name', [NAME, 'eva02_tiny_patch14_224'])
def test_tuned_in_full_without_what_comes_after_the_last_layer(name, out_layers, depth):
    narrow = {'embed_dim': 24, 'num_heads': 3}
    encoder = build(name, arch=narrow, out_layers=out_layers, tune='full')
    assert len(encoder.network.blocks) == depth
    sum(feature.square().sum() for feature in encoder(torch.rand(1, 3, 32, 32))).backward()
    assert_gradients(encoder)


@pytest.mark.parametrize(
    ('name', 'mean', 'std'),
    [
        (NAME, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ('deit_tiny_patch16_224', (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_mean_and_std_are_those_of_the_entry(name, mean, std):
    normalize = build(name, arch=SMALL).normalize
    torch.testing.assert_close(normalize.mean.flatten(), torch.tensor(mean))
    torch.testing.assert_close(normalize.std.flatten(), torch.tensor(std))


def test_wrong_architecture_lists_keys(official):
    with pytest.raises(UserError, match='does not fit the encoder') as error:
        build('vit_small_patch16_224', weights=NAME)
    assert 'cls_token as (1, 1, 192), the model as (1, 1, 384)' in str(error.value)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            {'name': 'vit_tiny_patch17_224'},
            "foundation.name='vit_tiny_patch17_224' is unknown; did you mean vit_tiny_patch16_224",
        ),
        ({'name': 'convmixer_768_32'}, "timm's 'convmixer_768_32' .*gives no layers of a ViT nor of a pyramid"),
        ({'out_layers': (12,)}, "'timm:vit_tiny_patch16_224' has layers 0 to 11"),
        ({'out_layers': ()}, "'timm:vit_tiny_patch16_224' has layers 0 to 11"),
        ({'input_size': 250}, 'input_size=250 is not a multiple of 16; nearest 240, 256'),
        ({'input_size': 15}, 'input_size=15 is not a multiple of 16; nearest 16$'),
        ({'weights': 'no_such_file'}, 'https://huggingface.co/timm/vit_tiny_patch16_224'),
    ],
)
def test_errors(settings, message, weights_folder):
    with pytest.raises(UserError, match=message):
        build(**settings)


@pytest.mark.data
@pytest.mark.skipif('MMGFNUC_WEIGHTS' not in os.environ, reason='needs real weights in $MMGFNUC_WEIGHTS')
@torch.no_grad()
def test_pretrained_weights():
    encoder = foundation_encoder('vit-tiny', out_layers=(-1,))
    official = timm.create_model(NAME, num_classes=0)
    state = load_file(Path(os.environ['MMGFNUC_WEIGHTS'], f'{NAME}.safetensors'))
    official.load_state_dict({key: value for key, value in state.items() if not key.startswith('head.')})
    images = torch.rand(1, 3, 224, 224)
    expected = official.eval().forward_features((images - 0.5) / 0.5)[:, 1:].mT.unflatten(2, (14, 14))
    torch.testing.assert_close(encoder(images)[0], expected, rtol=1e-4, atol=1e-4)
