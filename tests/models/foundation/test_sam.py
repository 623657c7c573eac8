from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import segment_anything
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.transforms import ResizeLongestSide
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.models.foundation.sam import ARCHITECTURES
from mmgfnuc.testing import assert_gradients, fill_with_noise

from ..tiny import TINY_SAM


def official_encoder(img_size=1024, **arch):
    """segment-anything's own image encoder as its `build_sam` makes it, every parameter of it noise."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=img_size,
        patch_size=16,
        out_chans=256,
        mlp_ratio=4,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        **arch,
    )
    return fill_with_noise(encoder, 0.3).eval()


@pytest.fixture(scope='module')
def official():
    """A whole official model with a small image encoder."""
    prompt = PromptEncoder(
        embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=1, embedding_dim=256, num_heads=2, mlp_dim=8)
    sam = Sam(official_encoder(**TINY_SAM), prompt, MaskDecoder(transformer_dim=256, transformer=transformer))
    return sam.eval()


@pytest.fixture
def official_file(official, weights_folder):
    path = weights_folder / 'sam_tiny.pth'
    torch.save(official.state_dict(), path)
    return path


@pytest.fixture
def build(official_file):
    return partial(foundation_encoder, 'sam-vit-b', weights='sam_tiny.pth', arch=TINY_SAM)


# What `Sam.preprocess` reads, with the values of `build_sam` but for the size.
PREPROCESS = SimpleNamespace(
    pixel_mean=torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1),
    pixel_std=torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1),
    image_encoder=SimpleNamespace(img_size=256),
)


def image(*size):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def as_images(array):
    return torch.from_numpy(array).movedim(-1, 0)[None] / 255


@torch.no_grad()
def official_embedding(sam, array):
    """What segment-anything's predictor computes: resize on uint8, normalise, pad with zeros to a square, encode."""
    resized = torch.from_numpy(ResizeLongestSide(1024).apply_image(array)).movedim(-1, 0)[None]
    return sam.image_encoder(sam.preprocess(resized))


def relative_error(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(('size', 'grid'), [((1024, 1024), (64, 64)), ((1024, 600), (64, 38))])
def test_equals_segment_anything_at_1024(official, build, size, grid):
    """The features of the padding are cropped; what is left is the official embedding."""
    array = image(*size)
    encoder = build()
    (embedding,) = encoder(as_images(array))
    assert embedding.shape == (1, *encoder.out_channels, *grid) == (1, 256, *encoder.grid_size(*size))
    torch.testing.assert_close(
        embedding, official_embedding(official, array)[..., : grid[0], : grid[1]], rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize('arch', ARCHITECTURES)
@torch.no_grad()
def test_every_size_equals_segment_anything(arch, tmp_path):
    """At full width, with a windowed and a global block, on an image that needs SAM's padding."""
    reduced = dict(depth=2, global_attn_indexes=(1,), img_size=256)
    official = official_encoder(**ARCHITECTURES[arch] | reduced)
    torch.save(official.state_dict(), tmp_path / 'sam.pth')
    name, path = f'sam-{arch.replace("_", "-")}', str(tmp_path / 'sam.pth')
    array = image(256, 175)
    (embedding,) = foundation_encoder(name, weights=path, arch=reduced, input_size=256)(as_images(array))
    prepared = Sam.preprocess(PREPROCESS, torch.from_numpy(array).movedim(-1, 0)[None])
    torch.testing.assert_close(embedding, official(prepared)[..., :11], rtol=0, atol=1e-4)


def test_resizes_as_segment_anything(official, build):
    """Equal but for the official resizing's rounding to uint8."""
    array = image(40, 64)
    (embedding,) = build()(as_images(array))
    assert embedding.shape == (1, 256, 40, 64)
    assert relative_error(embedding, official_embedding(official, array)[..., :40, :]) < 0.02


def test_blocks_equal_what_hooks_see(official, build):
    encoder = build(input_size=None, out_layers=('neck', -1, 0))
    assert encoder.out_channels == (32, 32, 256)
    seen = []
    hooks = [block.register_forward_hook(lambda _, __, output: seen.append(output)) for block in encoder.network.blocks]
    hooks.append(encoder.network.neck.register_forward_hook(lambda _, __, output: seen.append(output)))
    first, second, neck = encoder(torch.rand(1, 3, 64, 96))
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(first, seen[0].permute(0, 3, 1, 2))
    torch.testing.assert_close(second, seen[1].permute(0, 3, 1, 2))
    torch.testing.assert_close(neck, seen[2])


def test_what_is_dropped_after_the_last_layer_changes_no_feature(build):
    images = torch.rand(1, 3, 48, 64)
    (pruned,) = build(input_size=None, out_layers=(0,))(images)
    whole, _ = build(input_size=None, out_layers=(0, 'neck'))(images)
    torch.testing.assert_close(pruned, whole)


@pytest.mark.parametrize(('out_layers', 'depth'), [((0,), 1), ((-2,), 1), ((1,), 2), (('neck', 0), 2), (('neck',), 2)])
def test_tuned_in_full_without_what_comes_after_the_last_layer(build, out_layers, depth):
    encoder = build(input_size=None, out_layers=out_layers, tune='full')
    assert len(encoder.network.blocks) == depth
    sum(feature.square().sum() for feature in encoder(torch.rand(1, 3, 48, 32))).backward()
    assert_gradients(encoder)


def test_images_as_given_have_places(build):
    """Without position embeddings a constant image would have the same feature everywhere."""
    (feature,) = build(input_size=None, out_layers=(0,))(torch.full((1, 3, 64, 64), 0.5))
    assert (feature.std((2, 3)) > 0.01).all()


def test_random_weights_have_places():
    with pytest.warns(UserWarning, match='RANDOM'):
        encoder = foundation_encoder('sam-vit-b', weights='random', arch=TINY_SAM)
    positions = [parameter for name, parameter in encoder.named_parameters() if 'pos' in name]
    assert len(positions) == 1 + 2 * TINY_SAM['depth']
    assert all(parameter.std() > 0.01 for parameter in positions)


def test_loads_the_official_file_its_image_encoder_alone_and_the_copy_of_timm(official, build, weights_folder):
    expected = official.image_encoder.state_dict()
    torch.save(expected, weights_folder / 'encoder_only.pth')
    timm_names = {key.replace('.mlp.lin', '.mlp.fc'): value for key, value in expected.items()}
    torch.save(timm_names, weights_folder / 'timm.pth')
    for encoder in (build(), build(weights='encoder_only'), build(weights='timm')):
        state = encoder.network.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_wrong_size_of_model(official_file):
    with pytest.raises(UserError, match='does not fit the encoder') as error:
        foundation_encoder('sam-vit-b', weights='sam_tiny.pth', arch=TINY_SAM | {'depth': 3})
    assert 'blocks.2.' in str(error.value)


@pytest.mark.parametrize(
    ('arch', 'parameters'), [('vit_b', 89_670_912), ('vit_l', 308_278_272), ('vit_h', 637_026_048)]
)
def test_architectures_are_the_official_ones(arch, parameters):
    with torch.device('meta'):
        own = foundation_encoder(f'sam-{arch.replace("_", "-")}', weights='random')
        official = segment_anything.sam_model_registry[arch]().image_encoder
    shapes = {name: parameter.shape for name, parameter in own.network.named_parameters()}
    assert shapes == {name: parameter.shape for name, parameter in official.named_parameters()}
    assert sum(shape.numel() for shape in shapes.values()) == parameters
    heads = [(block.attn.num_heads, block.window_size) for block in own.network.blocks]
    assert heads == [(block.attn.num_heads, block.window_size) for block in official.blocks]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'out_layers': (2,)}, "give block indices 0 to 1 and/or 'neck'"),
        ({'out_layers': ()}, 'give block indices'),
        ({'out_layers': ('head',)}, 'give block indices'),
        ({'input_size': 1000}, 'input_size=1000 is not a multiple of 16; nearest 992, 1008'),
        ({'input_size': 10}, 'input_size=10 is not a multiple of 16; nearest 16$'),
        ({'tune': 'half'}, "tune='half' is unknown; choose one of frozen, lora, full"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        foundation_encoder(**{'name': 'sam-vit-b', 'weights': 'random', 'arch': TINY_SAM} | settings)
