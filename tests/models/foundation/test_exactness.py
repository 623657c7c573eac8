"""Features equal those of the official packages, with every parameter filled with noise, through their own files."""

from argparse import Namespace
from functools import partial

import open_clip
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import foundation_encoder

from .official import TRANSFORMERS, assert_equal_features, noisy, ours
from .reduced import VIT

SIZES = [None, (112, 168), (224, 280)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(
    ('name', 'official', 'settings', 'prefix_tokens'),
    [
        ('dinov2-vit-s14', transformers.Dinov2Model, {}, 1),
        ('dinov2-vit-g14', transformers.Dinov2Model, {'use_swiglu_ffn': True}, 1),
        ('dinov2-vit-s14-reg', transformers.Dinov2WithRegistersModel, {}, 5),
        ('dinov2-vit-g14-reg', transformers.Dinov2WithRegistersModel, {'use_swiglu_ffn': True}, 5),
        ('midnight-12k', transformers.Dinov2Model, {'use_swiglu_ffn': True}, 1),
    ],
)
@torch.no_grad()
def test_dinov2_of_transformers(name, official, settings, prefix_tokens, size, tmp_path):
    config = official.config_class(**TRANSFORMERS, image_size=518, patch_size=14, layerscale_value=1.0, **settings)
    model = noisy(official(config))
    if name in ('dinov2-vit-s14', 'dinov2-vit-g14'):
        resample_as_published(model)
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, *(size or (518, 518)))
    hidden = model(images, output_hidden_states=True).hidden_states[1:]
    expected = [model.layernorm(x)[:, prefix_tokens:] for x in hidden]
    assert_equal_features(ours(name, tmp_path), expected, images, 14)


def resample_as_published(model):
    """DINOv2's publisher resamples the positions of models without registers by another rule than transformers."""
    model.embeddings.interpolate_pos_encoding = partial(publishers_positions, model)


def publishers_positions(model, tokens, height, width):
    """Position embeddings of DINOv2's own code: a cubic kernel (a = -0.75) sampled at steps of 37 / (n + 0.1)."""
    stored = model.embeddings.position_embeddings
    square = stored[0, 1:].reshape(37, 37, -1)
    if (height, width) == (518, 518):
        return stored
    for axis, new in enumerate((height // 14, width // 14)):
        positions = (torch.arange(new, dtype=torch.float64) + 0.5) * 37 / (new + 0.1) - 0.5
        nearest = positions.floor()
        weights = torch.zeros(new, 37, dtype=torch.float64)
        for step in (-1, 0, 1, 2):
            distance = (positions - nearest - step).abs()
            near = 1.25 * distance**3 - 2.25 * distance**2 + 1
            far = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
            column = (nearest + step).clamp(0, 36).long()
            weights[torch.arange(new), column] += torch.where(distance <= 1, near, far)
        square = torch.tensordot(weights.float(), square.movedim(axis, 0), dims=1).movedim(0, axis)
    return torch.cat([stored[:, :1], square.reshape(1, -1, square.shape[-1])], dim=1)


@pytest.mark.parametrize('size', [None, (160, 96), (256, 256)])
@torch.no_grad()
def test_vit_of_transformers(size, tmp_path):
    """Phikon's form."""
    settings = {'intermediate_size': 96, 'image_size': 224, 'patch_size': 16, 'layer_norm_eps': 1e-12}
    model = noisy(transformers.ViTModel(transformers.ViTConfig(**TRANSFORMERS, **settings), add_pooling_layer=False))
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, *(size or (224, 224)))
    hidden = model(images, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[1:]
    assert_equal_features(ours('phikon', tmp_path), [model.layernorm(x)[:, 1:] for x in hidden], images, 16)


CLIP = {'intermediate_size': 96, 'image_size': 224, 'patch_size': 32, 'layer_norm_eps': 1e-5}


@pytest.mark.parametrize('size', [None, (160, 96), (256, 288)])
@pytest.mark.parametrize('whole', [False, True])
@torch.no_grad()
def test_clip_of_transformers(whole, size, tmp_path):
    """Of a file with the image tower alone, and of one of the whole model."""
    config = transformers.CLIPVisionConfig(**TRANSFORMERS, **CLIP, hidden_act='quick_gelu')
    if whole:
        text = {**TRANSFORMERS, 'intermediate_size': 48, 'vocab_size': 50, 'eos_token_id': 2, 'bos_token_id': 1}
        model = transformers.CLIPModel(transformers.CLIPConfig(vision_config=config.to_dict(), text_config=text))
        tower = noisy(model).vision_model
    else:
        tower = model = noisy(transformers.CLIPVisionModel(config))
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, *(size or (224, 224)))
    hidden = tower(images, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[1:]
    norm = (tower if whole else getattr(tower, 'vision_model', tower)).post_layernorm
    assert_equal_features(ours('clip-vit-b32-openai', tmp_path), [norm(x)[:, 1:] for x in hidden], images, 32)
    assert_equal_features(ours('plip', tmp_path), [norm(x)[:, 1:] for x in hidden], images, 32)


@pytest.mark.parametrize('size', [None, (160, 96), (256, 288)])
@pytest.mark.parametrize('name', ['siglip-vit-b16-224', 'siglip2-vit-b16-224'])
@torch.no_grad()
def test_siglip_of_transformers(name, size, tmp_path):
    settings = {'intermediate_size': 96, 'image_size': 224, 'patch_size': 16}
    model = noisy(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**TRANSFORMERS, **settings)))
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, *(size or (224, 224)))
    hidden = model(images, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[1:]
    norm = getattr(model, 'vision_model', model).post_layernorm
    assert_equal_features(ours(name, tmp_path), [norm(x) for x in hidden], images, 16)


def open_clip_model(quick_gelu, size=(224, 224)):
    vision = {'layers': 2, 'width': 24, 'head_width': 8, 'patch_size': 32, 'image_size': size}
    text = {'context_length': 8, 'vocab_size': 50, 'width': 16, 'heads': 2, 'layers': 1}
    torch.manual_seed(0)
    return open_clip.CLIP(embed_dim=12, vision_cfg=vision, text_cfg=text, quick_gelu=quick_gelu)


def open_clip_tokens(model, images):
    """What leaves each block, normalised, without the class token."""
    seen = []
    hooks = [
        block.register_forward_hook(lambda _, __, out: seen.append(out)) for block in model.visual.transformer.resblocks
    ]
    model.encode_image(images)
    for hook in hooks:
        hook.remove()
    return [model.visual.ln_post(x)[:, 1:] for x in seen]


@pytest.mark.parametrize('size', [(224, 224), (160, 96)])
@pytest.mark.parametrize('name', ['clip-vit-b32-laion2b', 'clip-vit-b32-datacomp', 'quiltnet-b32'])
@torch.no_grad()
def test_open_clip(name, size, tmp_path):
    """At another size open_clip resamples the position embeddings when it loads them."""
    model = noisy(open_clip_model(quick_gelu=False))
    torch.save(model.state_dict(), tmp_path / 'open_clip_pytorch_model.bin')
    other = open_clip_model(quick_gelu=False, size=size).eval()
    state = model.state_dict()
    open_clip.model.resize_pos_embed(state, other)
    other.load_state_dict(state)
    images = torch.randn(2, 3, *size)
    assert_equal_features(ours(name, tmp_path), open_clip_tokens(other, images), images, 32)


class Archived(nn.Module):
    """OpenAI's archives also say how large images and texts are."""

    def __init__(self, model):
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name in ('positional_embedding', 'text_projection', 'logit_scale'):
            self.register_parameter(name, getattr(model, name))
        for name, value in (('input_resolution', 224), ('context_length', 8), ('vocab_size', 50)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, images):
        return self.visual(images)


@pytest.mark.parametrize('form', ['archive', 'plain', 'half'])
@torch.no_grad()
def test_clip_of_openai(form, tmp_path):
    """The TorchScript archive, its plain state dict, and both in float16 as published."""
    model = noisy(open_clip_model(quick_gelu=True))
    path, images = tmp_path / 'clip.pt', torch.randn(2, 3, 224, 224)
    if form == 'archive':
        torch.jit.trace(Archived(model), images[:1]).save(path)
    elif form == 'plain':
        torch.save(model.state_dict(), path)
    else:
        model = model.half().float()
        torch.save({key: value.half() for key, value in model.state_dict().items()}, path)
    assert_equal_features(ours('clip-vit-b32-openai', path), open_clip_tokens(model, images), images, 32)


@torch.no_grad()
def test_open_clip_with_a_tower_of_timm(tmp_path):
    """EVA-02-CLIP: positions and rotations; and CoCa's extra parts, as CONCH has them, beside another tower."""
    encoder = noisy(foundation_encoder('eva02-clip-b16', weights='random', arch=VIT, out_layers=(0, 1)))
    state = {f'visual.trunk.{key}': value for key, value in encoder.network.state_dict().items() if 'rope' not in key}
    state |= {'visual.trunk.head.weight': torch.rand(4, 24), 'visual.trunk.head.bias': torch.rand(4)}
    torch.save(state | {'text.ln_final.weight': torch.rand(3), 'logit_scale': torch.rand(())}, tmp_path / 'eva.bin')
    images = torch.rand(1, 3, 224, 224)
    for own, expected in zip(ours('eva02-clip-b16', tmp_path / 'eva.bin')(images), encoder(images), strict=True):
        torch.testing.assert_close(own, expected)
    encoder = noisy(foundation_encoder('conch', weights='random', arch=VIT, out_layers=(0, 1)))
    state = {f'visual.trunk.{key}': value for key, value in encoder.network.state_dict().items()}
    state |= {'visual.attn_pool_contrast.query': torch.rand(3), 'visual.proj_contrast': torch.rand(3)}
    torch.save(state, tmp_path / 'conch.bin')
    for own, expected in zip(ours('conch', tmp_path / 'conch.bin')(images), encoder(images), strict=True):
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize('registers', [False, True])
@torch.no_grad()
def test_dinov2_of_the_repository(registers, tmp_path):
    """Its layout, made from that of transformers by the names of the repository."""
    cls = transformers.Dinov2WithRegistersModel if registers else transformers.Dinov2Model
    config = cls.config_class(**TRANSFORMERS, image_size=518, patch_size=14, use_swiglu_ffn=True)
    model = noisy(cls(config))
    if not registers:
        resample_as_published(model)
    own = model.state_dict()
    state = {
        'cls_token': own['embeddings.cls_token'],
        'pos_embed': own['embeddings.position_embeddings'],
        'mask_token': own['embeddings.mask_token'],
        'patch_embed.proj.weight': own['embeddings.patch_embeddings.projection.weight'],
        'patch_embed.proj.bias': own['embeddings.patch_embeddings.projection.bias'],
        'norm.weight': own['layernorm.weight'],
        'norm.bias': own['layernorm.bias'],
    }
    if registers:
        state['register_tokens'] = own['embeddings.register_tokens']
    for i in range(2):
        old, new = f'encoder.layer.{i}', f'blocks.{i}'
        for kind in ('weight', 'bias'):
            for norm in ('norm1', 'norm2'):
                state[f'{new}.{norm}.{kind}'] = own[f'{old}.{norm}.{kind}']
            qkv = [own[f'{old}.attention.{x}_proj.{kind}'] for x in 'qkv']
            state[f'{new}.attn.qkv.{kind}'] = torch.cat(qkv)
            state[f'{new}.attn.proj.{kind}'] = own[f'{old}.attention.o_proj.{kind}']
            gates = [own[f'{old}.mlp.{x}_proj.{kind}'] for x in ('gate', 'up')]
            state[f'{new}.mlp.w12.{kind}'] = torch.cat(gates)
            state[f'{new}.mlp.w3.{kind}'] = own[f'{old}.mlp.down_proj.{kind}']
        for j in (1, 2):
            state[f'{new}.ls{j}.gamma'] = own[f'{old}.layer_scale{j}.lambda1']
    torch.save(state, tmp_path / 'dinov2.pth')
    images = torch.randn(1, 3, 224, 224)
    hidden = model(images, output_hidden_states=True).hidden_states[1:]
    prefix = 5 if registers else 1
    name = 'dinov2-vit-g14-reg' if registers else 'dinov2-vit-g14'
    assert_equal_features(
        ours(name, tmp_path / 'dinov2.pth'), [model.layernorm(x)[:, prefix:] for x in hidden], images, 14
    )


@torch.no_grad()
def test_sam2_file_of_the_publisher(tmp_path):
    """The trunk within Meta's checkpoint, with the names of its MLP; timm's file is loaded by timm."""
    hiera = {'embed_dim': 8, 'num_heads': 1, 'stages': (1, 2, 2, 1), 'global_att_blocks': (4,)}
    encoder = noisy(foundation_encoder('sam2-hiera-tiny', weights='random', arch=hiera, input_size=None))
    trunk = {
        'image_encoder.trunk.' + key.replace('mlp.fc1', 'mlp.layers.0').replace('mlp.fc2', 'mlp.layers.1'): value
        for key, value in encoder.network.state_dict().items()
    }
    others = {'image_encoder.neck.convs.0.conv.weight': torch.rand(2), 'sam_mask_decoder.x': torch.rand(2)}
    torch.save({'model': trunk | others}, tmp_path / 'sam2_hiera_tiny.pt')
    own = foundation_encoder(
        'sam2-hiera-tiny', weights=str(tmp_path / 'sam2_hiera_tiny.pt'), arch=hiera, input_size=None
    )
    images = torch.rand(1, 3, 64, 96)
    for feature, expected in zip(own(images), encoder(images), strict=True):
        torch.testing.assert_close(feature, expected)


@torch.no_grad()
def test_images_are_normalised_and_padded_before(tmp_path):
    """From images in [0, 1] to the features of the official package, at a size that the patch does not divide."""
    config = transformers.Dinov2Config(**TRANSFORMERS, image_size=518, patch_size=14)
    model = noisy(transformers.Dinov2Model(config))
    resample_as_published(model)
    model.save_pretrained(tmp_path)
    images = torch.rand(1, 3, 100, 140)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    hidden = model(F.pad(normalised, (0, 0, 0, 12), mode='replicate'), output_hidden_states=True).hidden_states[-1]
    expected = model.layernorm(hidden)[:, 1:].mT.unflatten(2, (8, 10))
    torch.testing.assert_close(ours('dinov2-vit-s14', tmp_path)(images)[1], expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_checkpoints_of_ones_own_mae_and_dino(tmp_path):
    """As facebookresearch/mae (models_mae.py, util/misc.py), facebookresearch/dino and bytedance/ibot (main_*.py,
    vision_transformer.py) save them, made from transformers' MAE without masking."""
    decoder = {'decoder_hidden_size': 12, 'decoder_num_hidden_layers': 1, 'decoder_num_attention_heads': 2}
    config = transformers.ViTMAEConfig(
        **TRANSFORMERS | decoder, intermediate_size=96, image_size=64, mask_ratio=0.0, layer_norm_eps=1e-6
    )
    model = noisy(transformers.ViTMAEForPreTraining(config))
    own = model.state_dict()
    state = {
        'cls_token': own['vit.embeddings.cls_token'],
        'pos_embed': own['vit.embeddings.position_embeddings'],
        'mask_token': own['decoder.mask_token'],
        'decoder_pos_embed': own['decoder.decoder_pos_embed'],
    }
    for kind in ('weight', 'bias'):
        state[f'patch_embed.proj.{kind}'] = own[f'vit.embeddings.patch_embeddings.projection.{kind}']
        state[f'norm.{kind}'] = own[f'vit.layernorm.{kind}']
        for part in ('decoder_embed', 'decoder_norm', 'decoder_pred'):
            state[f'{part}.{kind}'] = own[f'decoder.{part}.{kind}']
        layers = [(f'vit.layers.{i}', f'blocks.{i}') for i in range(2)]
        for old, new in [*layers, ('decoder.decoder_layers.0', 'decoder_blocks.0')]:
            qkv = [own[f'{old}.attention.{x}_proj.{kind}'] for x in 'qkv']
            state |= {
                f'{new}.norm1.{kind}': own[f'{old}.layernorm_before.{kind}'],
                f'{new}.attn.qkv.{kind}': torch.cat(qkv),
                f'{new}.attn.proj.{kind}': own[f'{old}.attention.o_proj.{kind}'],
                f'{new}.norm2.{kind}': own[f'{old}.layernorm_after.{kind}'],
                f'{new}.mlp.fc1.{kind}': own[f'{old}.mlp.fc1.{kind}'],
                f'{new}.mlp.fc2.{kind}': own[f'{old}.mlp.fc2.{kind}'],
            }
    mae = {'model': state, 'optimizer': {}, 'epoch': 799, 'scaler': {}, 'args': Namespace(mask_ratio=0.75)}
    heads = ('mlp.0.weight', 'mlp.0.bias', 'last_layer.weight_g', 'last_layer.weight_v', 'last_layer2.weight_v')
    teacher = {f'backbone.{key}': value for key, value in state.items() if not key.startswith(('decoder_', 'mask_'))}
    teacher |= {f'head.{key}': torch.rand(2) for key in heads}
    student = {
        f'module.{key}': value + 1 for key, value in (teacher | {'backbone.masked_embed': torch.rand(1)}).items()
    }
    dino = {'student': student, 'teacher': teacher, 'optimizer': {}, 'epoch': 100, 'args': Namespace(out_dim=65536)}
    images, order = torch.randn(1, 3, 64, 64), torch.arange(16.0)[None]
    hidden = model.vit(images, noise=order, output_hidden_states=True).hidden_states[1:]
    for name, checkpoint in {'mae': mae, 'dino': dino}.items():
        torch.save(checkpoint, tmp_path / f'{name}.pth')
        encoder = ours('timm:vit_base_patch16_224', tmp_path / f'{name}.pth', img_size=64)
        assert_equal_features(encoder, [model.vit.layernorm(x)[:, 1:] for x in hidden], images, 16)
    torch.save({'model': state | {'projector.weight': torch.rand(2)}}, tmp_path / 'other.pth')
    with pytest.raises(UserError, match=r'it has projector\.weight, which the model lacks'):
        ours('timm:vit_base_patch16_224', tmp_path / 'other.pth', img_size=64)
