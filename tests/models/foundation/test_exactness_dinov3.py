"""Features equal those of the official DINOv3, through files of its publisher."""

import re

import pytest
import torch
import transformers

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import foundation_encoder

from .official import TRANSFORMERS, assert_equal_features, noisy, ours


def published_dinov3(model):
    """The parameters of transformers' DINOv3ViTModel under the names of the publisher's files."""
    names = {
        'embeddings.cls_token': 'cls_token',
        'embeddings.register_tokens': 'storage_tokens',
        'embeddings.mask_token': 'mask_token',
        'embeddings.patch_embeddings.': 'patch_embed.proj.',
        'layer.': 'blocks.',
        'attention.o_proj.': 'attn.proj.',
        'layer_scale1.lambda1': 'ls1.gamma',
        'layer_scale2.lambda1': 'ls2.gamma',
        'up_proj': 'fc1',
        'down_proj': 'fc2',
    }
    state = {}
    for key, value in model.state_dict().items():
        for name, published in names.items():
            key = key.replace(name, published)
        state[key.removeprefix('model.')] = value
    for block in range(2):
        part = f'blocks.{block}.attn'
        for kind in ('weight', 'bias'):
            query = state.pop(f'{part}.q_proj.{kind}'.replace('attn', 'attention'))
            keys = state.pop(f'{part}.k_proj.{kind}'.replace('attn', 'attention'), torch.zeros_like(query))
            value = state.pop(f'{part}.v_proj.{kind}'.replace('attn', 'attention'))
            state[f'{part}.qkv.{kind}'] = torch.cat([query, keys, value])
        # What the mask hides may be anything.
        bias = state[f'{part}.qkv.bias']
        state[f'{part}.qkv.bias_mask'] = torch.ones_like(bias)
        state[f'{part}.qkv.bias_mask'][24:48], bias[24:48] = 0, 1
    # One period per frequency of a head of 8 channels: half of each axis.
    state['rope_embed.periods'] = (100 ** (torch.arange(2) / 2)).bfloat16()
    return state


@pytest.fixture
def dinov3():
    config = transformers.DINOv3ViTConfig(
        **TRANSFORMERS, intermediate_size=96, num_register_tokens=4, layerscale_value=1.0, image_size=64
    )
    return noisy(transformers.DINOv3ViTModel(config))


@pytest.mark.parametrize('size', [(64, 64), (96, 48)])
@torch.no_grad()
def test_dinov3_with_biases(size, dinov3, tmp_path):
    torch.save(published_dinov3(dinov3), tmp_path / 'dinov3.pth')
    images = torch.randn(2, 3, *size)
    hidden = dinov3(images, output_hidden_states=True).hidden_states[1:]
    expected = [dinov3.norm(x)[:, 5:] for x in hidden]
    assert_equal_features(ours('timm:vit_small_patch16_dinov3_qkvb', tmp_path / 'dinov3.pth'), expected, images, 16)


def test_dinov3_drops_nothing_that_counts(dinov3, tmp_path):
    state = published_dinov3(dinov3)

    def refusal(name='dinov3-vit-s16', **changes):
        torch.save(state | changes, tmp_path / 'dinov3.pth')
        with pytest.raises(UserError) as error:
            ours(name, tmp_path / 'dinov3.pth')
        return str(error.value)

    assert 'timm:vit_small_patch16_dinov3_qkvb' in refusal()
    unmasked = {'blocks.1.attn.qkv.bias_mask': torch.ones(72)}
    assert 'blocks.1.attn.qkv.bias is not zero for the keys' in refusal(
        'timm:vit_small_patch16_dinov3_qkvb', **unmasked
    )
    without = {f'blocks.{block}.attn.qkv.bias': torch.zeros(72) for block in range(2)}
    other = {'rope_embed.periods': torch.tensor([1.0, 20.0])}
    assert 'other periods' in refusal(**without, **other)
    torch.save(state | without, tmp_path / 'dinov3.pth')
    ours('dinov3-vit-s16', tmp_path / 'dinov3.pth')


@torch.no_grad()
def test_dinov3_convnext(tmp_path):
    """The last stage is normalised, the others are not."""
    sizes = {'hidden_sizes': [8, 16, 24, 32], 'depths': [1, 1, 2, 1]}
    model = noisy(transformers.DINOv3ConvNextModel(transformers.DINOv3ConvNextConfig(**sizes)))
    ours_sizes = {'dims': tuple(sizes['hidden_sizes']), 'depths': tuple(sizes['depths'])}
    names = {
        'layer_norm.': 'norm.',
        'depthwise_conv': 'dwconv',
        'pointwise_conv': 'pwconv',
        '.layers.': '.',
        'model.stages.': 'stages.',
    }
    state = {}
    for key, value in model.state_dict().items():
        for name, published in names.items():
            key = key.replace(name, published)
        state[re.sub(r'stages\.(\d)\.downsample_layers', r'downsample_layers.\1', key)] = value
    state |= {'norms.3.weight': state['norm.weight'], 'norms.3.bias': state['norm.bias']}
    torch.save(state, tmp_path / 'dinov3.pth')
    encoder = foundation_encoder('dinov3-convnext-tiny', weights=str(tmp_path / 'dinov3.pth'), arch=ours_sizes)
    images = torch.randn(2, 3, 64, 96)
    stages, x = [], images
    for stage in model.model.stages:
        x = stage(x)
        stages.append(x)
    stages[-1] = model.layer_norm(x.movedim(1, -1)).movedim(-1, 1)
    for feature, expected in zip(encoder.eval().encode(images), stages, strict=True):
        torch.testing.assert_close(feature, expected, rtol=0, atol=1e-4)
