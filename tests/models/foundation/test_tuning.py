import pytest
import torch
from safetensors.torch import save_file

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.registry import MODELS
from mmgfnuc.testing import data_samples, fill_with_noise, total_loss

from ..tiny import SEGMENTOR, TINY_SAM

VIT = {'embed_dim': 24, 'depth': 2, 'num_heads': 3}
KINDS = {
    'vit': {'name': 'vit-tiny', 'arch': VIT},
    'eva': {'name': 'eva02-clip-b16', 'arch': VIT},
    'dinov3': {'name': 'dinov3-vit-s16', 'arch': VIT},
    'sam': {'name': 'sam-vit-b', 'arch': TINY_SAM, 'input_size': None},
    'hiera': {
        'name': 'sam2-hiera-tiny',
        'arch': {'embed_dim': 8, 'num_heads': 1, 'stages': (1, 2, 2, 1), 'global_att_blocks': (4,)},
        'input_size': None,
    },
}


@pytest.fixture(params=KINDS)
def settings(request, weights_folder):
    """An encoder with weights from a file."""
    chosen = KINDS[request.param]
    for name in ('mine', 'other'):
        network = fill_with_noise(foundation_encoder(**chosen, weights='random').network, 0.2)
        save_file(dict(network.state_dict()), weights_folder / f'{name}.safetensors')
    return chosen | {'weights': 'mine'}


def segmentor(settings, **changes):
    return MODELS.build(SEGMENTOR | {'foundation': {'type': 'mmgfnuc.foundation_encoder', **settings, **changes}})


def train(model, steps=1):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        total_loss(model.train().loss(torch.rand(2, 3, 64, 64), data_samples(2, 64, 64))).backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize('settings', ['eva'], indirect=True)
def test_merged_adapters(settings):
    """One network without adapters, the same features; its checkpoint is that of an encoder tuned in full."""
    model = segmentor(settings, tune='lora', lora={'rank': 2, 'alpha': 4, 'mlp': True})
    train(model, steps=2)
    images = torch.rand(1, 3, 64, 64)
    expected = model.eval()(images)
    plain = segmentor(settings, tune='full')
    model.foundation.merge_lora()
    assert not any('lora' in name for name, _ in model.named_parameters())
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain.eval().foundation(images)[0], model.foundation(images)[0], atol=1e-4)
    plain.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(plain(images), model(images))


def test_what_lora_adapts(settings):
    def adapted(**lora):
        model = segmentor(settings, tune='lora', lora=lora)
        names = [name for name, _ in model.foundation.network.named_parameters() if 'lora_A' in name]
        return {name.split('.lora_A')[0].split('.', 2)[2] for name in names}

    assert all(name.startswith('attn.') for name in adapted())
    assert any(name.startswith('mlp.') for name in adapted(mlp=True))
    (weight,) = {
        parameter.shape[0]
        for name, parameter in segmentor(settings, tune='lora', lora={'rank': 3}).named_parameters()
        if 'lora_A' in name
    }
    assert weight == 3


def test_rank_and_scale_by_the_formula():
    """W x + alpha / rank B A x."""
    encoder = foundation_encoder('vit-tiny', weights='random', arch=VIT, tune='lora', lora={'rank': 2, 'alpha': 6})
    layer = fill_with_noise(encoder.network.blocks[0].attn.qkv, 0.5)
    x = torch.randn(3, 24)
    a, b = layer.lora_A['default'].weight, layer.lora_B['default'].weight
    expected = x @ layer.base_layer.weight.T + layer.base_layer.bias + 6 / 2 * (x @ a.T @ b.T)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize('tune', ['lora', 'full'])
def test_gradient_checkpointing_changes_memory_only(settings, tune):
    """The same features and gradients; a block's inside is not kept."""
    images, grads = torch.rand(2, 3, 64, 64), []
    kept = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = foundation_encoder(**settings, tune=tune, grad_checkpointing=checkpointing).train()
        if tune == 'lora':
            fill_with_noise(encoder, 0.2)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x.numel()) or x, lambda x: x):
            loss = sum(feature.square().sum() for feature in encoder(images))
        kept.append(sum(saved))
        loss.backward()
        grads.append({name: p.grad for name, p in encoder.named_parameters() if p.requires_grad})
    assert kept[1] < 0.7 * kept[0]
    for name, gradient in grads[0].items():
        torch.testing.assert_close(grads[1][name], gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max().item())


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'tune': 'half'}, "tune='half' is unknown; choose one of frozen, lora, full"),
        ({'lora': {'rank': 4}}, r"lora=\{'rank': 4\} has no meaning for tune='frozen'; set tune='lora' or drop it"),
        ({'tune': 'lora', 'lora': {'r': 4}}, "lora has no 'r'; it takes rank, alpha, dropout, mlp, targets"),
        ({'tune': 'lora', 'lora': {'rank': 0}}, 'rank=0: give a whole number from 1; 8 is usual'),
        ({'tune': 'lora', 'lora': {'rank': '8'}}, "rank='8': give a whole number from 1"),
        ({'tune': 'lora', 'lora': {'alpha': 0}}, 'alpha=0: give a whole number from 1'),
        ({'tune': 'lora', 'lora': {'mlp': True, 'targets': 'x'}}, "targets='x' says which layers; drop mlp=True, or"),
        ({'tune': 'lora', 'lora': {'targets': '('}}, r"targets='\(' is not a regular expression: missing \)"),
        ({'tune': 'lora', 'lora': {'targets': 'x'}}, r'it has blocks.0.attn.qkv, blocks.0.attn.proj, blocks.0.mlp'),
        ({'tune': 'lora', 'lora': {'dropout': 2.0}}, 'dropout=2.0: give a number from 0, below 1'),
        ({'arch': {'embed_dims': 8}}, r"arch=\{'embed_dims': 8\} does not fit 'vit-tiny': .*unexpected keyword"),
        ({'arch': {'embed_dim': 25, 'num_heads': 3}}, r"arch=\{'embed_dim': 25, .*\} does not fit 'vit-tiny'"),
        ({'name': 'sam-vit-b', 'arch': {'patch_size': 8}}, r"arch=\{'patch_size': 8\} does not fit 'sam-vit-b'"),
        ({'tune': 'full', 'cache': {'folder': 'x'}}, "cache=.*: features of an encoder with tune='full' change"),
        ({'input_size': 250}, 'input_size=250 is not a multiple of 16; nearest 240, 256'),
        ({'input_size': 'big'}, "input_size='big' is not a multiple of 16; nearest 224, 240"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        foundation_encoder(**{'name': 'vit-tiny', 'weights': 'random', 'arch': VIT} | settings)


def test_convolutions_have_no_attention_to_adapt():
    with pytest.raises(
        UserError, match=r'layers of attention, and this encoder has none; lora\.targets may name others'
    ):
        foundation_encoder('dinov3-convnext-tiny', weights='random', tune='lora')


def test_statistics_of_batch_norms_stay_beside_adapters():
    """They are no part of the checkpoint."""
    encoder = foundation_encoder('timm:mobilevit_xxs', weights='random', tune='lora', lora={'mlp': True}).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items() if 'running' in key}
    encoder(torch.rand(2, 3, 64, 64))
    assert before
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in before.items())


def test_lora_needs_peft(monkeypatch):
    monkeypatch.setattr('mmgfnuc.models.foundation.lora.is_installed', lambda name: False)
    with pytest.raises(UserError, match="tune='lora' needs the package peft; install it: pip install"):
        foundation_encoder('vit-tiny', weights='random', arch=VIT, tune='lora')


def test_nothing_to_merge():
    with pytest.raises(UserError, match="'vit-tiny' has tune='full', no adapters"):
        foundation_encoder('vit-tiny', weights='random', arch=VIT, tune='full').merge_lora()
