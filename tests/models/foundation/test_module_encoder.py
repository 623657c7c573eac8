"""A plain module as foundation encoder."""

import importlib

import pytest
import torch
from torch import nn

import mmgfnuc
from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import (
    Entry,
    ModuleEncoder,
    TimmViTEncoder,
    add_entry,
    build_encoder,
    catalogue,
    entry_of,
    entry_of_config,
    foundation_encoder,
)
from mmgfnuc.registry import MODELS
from mmgfnuc.testing import data_samples, fill_with_noise, total_loss

from ..tiny import BACKBONE, DECODE_HEAD, NECK

MEAN, STD = (0.6, 0.5, 0.4), (0.2, 0.3, 0.2)
SAID = {'mean': MEAN, 'std': STD, 'out_channels': [6], 'out_strides': [8]}


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.query, self.value = nn.BatchNorm2d(width), nn.Linear(width, width), nn.Linear(width, width)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        tokens = self.norm(x).movedim(1, -1)
        return x + self.drop(self.value(torch.tanh(self.query(tokens)))).movedim(-1, 1)


class Own(nn.Module):
    out_strides = (4, 16)
    mean, std = MEAN, STD

    def __init__(self, width=8, extra=0):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.deep = nn.Conv2d(width, 2 * width, 4, 4)
        self.out_channels = (width, 2 * width + extra)

    def forward(self, images):
        fine = self.blocks(self.stem(images))
        return [fine, self.deep(fine)]

    def set_grad_checkpointing(self, enable):
        self.checkpointed = enable

    def init_weights(self):
        raise AssertionError('MMEngine would erase the weights')


class Loads(Own):
    """Its constructor gives the same weights each time."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


class Single(nn.Module):
    """One map, and nothing said but by the config."""

    def __init__(self, tune='x'):
        super().__init__()
        self.tune = tune
        self.patches = nn.Conv2d(3, 6, 8, 8)

    def forward(self, images):
        return self.patches(images)


class Torch(nn.Module):
    """PyTorch's own transformer, whose layers take the weights out of their linear layers."""

    out_channels, out_strides, mean, std = (16,), (8,), MEAN, STD

    def __init__(self):
        super().__init__()
        self.patches, self.first = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 16)
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(16, 2, 16, batch_first=True)])

    def forward(self, images):
        x = self.patches(images)
        tokens = self.layers[0](self.first(x.flatten(2).mT))
        return tokens.mT.unflatten(2, x.shape[2:])


def own(**settings):
    return build_encoder({'type': Own, 'weights': 'random', **settings})


def segmentor(**settings):
    foundation = {'type': Own, **settings}
    parts = {'backbone': BACKBONE, 'foundation': foundation, 'neck': NECK, 'decode_head': DECODE_HEAD}
    return MODELS.build({'type': 'mmgfnuc.FusionSegmentor', **parts})


@pytest.fixture
def weights(tmp_path):
    torch.save({'state_dict': fill_with_noise(Own(), 0.3).state_dict()}, tmp_path / 'own.pth')
    return str(tmp_path / 'own.pth')


def test_features_are_those_of_the_module():
    """Of the normalised image, padded to the deepest stride; cropped to the grid."""
    encoder = own(width=6)
    images = torch.rand(2, 3, 36, 50)
    normalised = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    padded = nn.functional.pad(normalised, (0, 14, 0, 12), mode='replicate')
    fine, deep = encoder.network(padded)
    features = encoder.train()(images)
    assert encoder.grid_sizes(36, 50) == [(9, 13), (3, 4)]
    torch.testing.assert_close(features[0], fine[..., :9, :13])
    torch.testing.assert_close(features[1], deep)
    (only,) = build_encoder({'type': Own, 'width': 6, 'out_layers': [-1]})(images)
    assert only.shape == deep.shape


def test_what_the_module_does_not_say_is_given_in_the_config():
    encoder = build_encoder({'type': Single, **SAID, 'arch': {'tune': 'y'}, 'weights': 'random'})
    (feature,) = encoder(torch.rand(1, 3, 20, 20))
    assert feature.shape == (1, 6, 3, 3)
    assert (encoder.tune, encoder.network.tune) == ('frozen', 'y')


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            {'type': Single},
            r'does not say its out_channels: add an attribute to the class, such as out_channels =',
        ),
        ({'type': Single, **SAID, 'mean': None}, r'Single does not say its mean: .*mean = \(0\.485, 0\.456, 0\.406\)'),
        ({'type': Single, **SAID, 'std': (1, 0, 1)}, r'std=\(1, 0, 1\): give a number for each colour'),
        (
            {'type': Single, **SAID, 'mean': (178, 140, 176)},
            r'mean=\(178.0, .*; divide those of images from 0 to 255 by',
        ),
        ({'type': nn.ReLU()}, r'type=ReLU\(...\) is built already; give its class'),
        ({'type': Single, **SAID, 'out_strides': [8, 4]}, r'out_strides=\(8, 4\): give one of each for every'),
        ({'type': Single, **SAID, 'out_strides': [8.5]}, r'out_strides=\(8\.5,\): give a whole number for'),
        ({'type': Single, **SAID, 'tune': 'y'}, "tune='y' may be meant for Single, or be the setting of every"),
        ({'type': Single, **SAID, 'grad_checkpointing': True}, r'set_grad_checkpointing\(True\) of .*, which lacks it'),
        ({'type': Own, 'out_layers': [2]}, r"out_layers=\[2\]: 'Own' has maps 0 to 1"),
        ({'type': Own, 'weights': 'nosuch.pth'}, r"'nosuch\.pth' .* are not there .*; give the path of their file"),
        ({'type': Own, 'tune': 'lora'}, r'lora\.targets may name others, of which it has blocks\.0\.query'),
        ({'type': Loads, 'weights': 'random'}, 'the constructor of .*Loads gives the same weights each time'),
        ({'type': lambda: nn.Linear(1, 1)}, 'gives a Linear; give a FoundationEncoder, or the class of a module'),
        ({'type': 'mmgfnuc.nosuch.Own'}, r"type='mmgfnuc.nosuch.Own' cannot be imported \(ModuleNotFoundError"),
        ({'type': f'{__name__}.Nosuch'}, r"type='.*Nosuch' is not in '.*test_module_encoder'"),
    ],
)
def test_refusals(config, message):
    with pytest.raises(UserError, match=message) as error:
        build_encoder(config)
    assert '\n' not in str(error.value)


def test_maps_that_are_not_as_said():
    shapes = r'shapes \[\(1, 8, 8, 8\), \(1, 16, 2, 2\)\] .* they are \[.*, \(1, 17, 2, 2\)\]'
    with pytest.raises(UserError, match=shapes):
        own(extra=1)(torch.rand(1, 3, 32, 32))


def test_a_misspelt_setting_of_either_is_refused():
    for name, message in {'widht': "Own has no 'widht'; near it: width", 'tuned': "'tuned'; near it: tune"}.items():
        with pytest.raises(UserError, match=message):
            mmgfnuc.create_model('unet', {'type': Own, name: 1}, 'context')
    with pytest.raises(UserError, match=r"lora has no 'target'; near it: targets"):
        mmgfnuc.create_model('unet', {'type': Own, 'tune': 'lora', 'lora': {'target': 'x'}}, 'context')


def test_a_model_with_it_is_trained_and_explained():
    """Every trainable parameter gets a gradient, as processes in parallel need; frozen, none is trainable."""
    parts = {'backbone': {'widths': (4, 8)}}
    settings = {'type': Own, 'weights': 'random', 'width': 4}
    for tuned, trainable in ({}, 0), ({'tune': 'full'}, 16), ({'tune': 'lora', 'lora': {'targets': '.*value'}}, 4):
        model = mmgfnuc.create_model('unet', settings | tuned, 'context', parts=parts).train()
        found = [p for p in model.foundation.parameters() if p.requires_grad]
        assert len(found) == trainable
        total_loss(model.loss(torch.rand(2, 3, 32, 32), data_samples(2, 32, 32))).backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        statistics = [module for module in model.foundation.modules() if isinstance(module, nn.BatchNorm2d)]
        assert all(module.training == (tuned.get('tune') == 'full') for module in statistics)
    images = torch.rand(1, 3, 32, 32)
    strides = model.foundation.token_strides(32, 32)
    assert model.neck.explain(model.backbone(images), model.foundation(images), strides)


def test_it_is_built_without_memory():
    with torch.device('meta'):
        assert own()(torch.rand(1, 3, 32, 32))[1].shape == (1, 16, 2, 2)


def test_a_file_stays_out_of_the_checkpoint(weights):
    model = segmentor(weights=weights)
    state = model.state_dict()
    assert [key for key in state if key.startswith('foundation.')] == ['foundation.weights_sha256']
    loaded = segmentor(weights=weights)
    loaded.load_state_dict(state, strict=True)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(loaded.eval()(images), model.eval()(images), rtol=0, atol=0)
    torch.save(Own(width=4).state_dict(), weights)
    with pytest.raises(UserError, match=r'own\.pth does not fit the encoder .* has stem\.weight as \(4, 3, 4, 4\)'):
        segmentor(weights=weights)


def test_weights_of_the_constructor_are_saved(recwarn):
    """They exist nowhere else, as far as is known; MMEngine does not draw others."""
    model = segmentor()
    assert any('has the weights that its constructor gives; they are saved' in str(w.message) for w in recwarn)
    assert not any('RANDOM' in str(warning.message) for warning in recwarn)
    before = {key: value.clone() for key, value in model.foundation.state_dict().items()}
    model.init_weights()
    other = segmentor()
    assert not torch.equal(other.foundation.network.stem.weight, before['network.stem.weight'])
    other.load_state_dict(model.state_dict(), strict=True)
    assert all(torch.equal(value, before[key]) for key, value in other.foundation.state_dict().items())


def test_a_random_encoder_draws_its_weights_from_the_seed():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append((own().network.stem.weight, torch.rand(1)))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_adapters_are_merged(weights):
    model = segmentor(weights=weights, tune='lora', lora={'targets': r'blocks\.1\..*', 'rank': 2})
    adapted = {name for name, _ in model.foundation.network.named_parameters() if 'lora_' in name}
    assert len(adapted) == 4
    assert all(name.startswith('blocks.1.') for name in adapted)
    fill_with_noise(model.foundation, 0.3).eval()
    images = torch.rand(1, 3, 32, 32)
    expected = model.foundation(images)
    model.foundation.merge_lora()
    torch.testing.assert_close(model.foundation(images), expected)
    plain = segmentor(weights=weights, tune='full')
    plain.load_state_dict(model.state_dict(), strict=True)


def test_adapters_stand_only_where_they_are_called():
    """PyTorch's attention takes the weights out of its layers: an adapter beside them would never be asked."""
    encoder = build_encoder({'type': Torch, 'weights': 'random', 'tune': 'lora', 'lora': {'targets': '.*'}})
    adapted = {name.split('.lora_')[0] for name, p in encoder.network.named_parameters() if p.requires_grad}
    assert adapted == {'first'}


def test_depths_and_gradient_checkpointing():
    encoder = own(grad_checkpointing=True, tune='full')
    assert encoder.network.checkpointed
    depths = {name: encoder.layer_of(f'{name}.weight') for name in ('stem', 'blocks.0.norm', 'blocks.1.value', 'deep')}
    assert depths == {'stem': 0, 'blocks.0.norm': 1, 'blocks.1.value': 2, 'deep': 3}
    assert encoder.num_layers == 4


CACHED = """
from torch import nn

class Inner(nn.Module):
    def forward(self, x):
        return 2 * x

class Cached(nn.Sequential):
    out_channels, out_strides, mean, std = (4,), (8,), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    def __init__(self, gain=1):
        super().__init__(nn.Conv2d(3, 4, 8, 8), Inner())
        nn.init.constant_(self[0].weight, gain)
"""


def test_features_in_a_cache_belong_to_arguments_weights_and_code(tmp_path, monkeypatch):
    """All that the features depend on makes them be computed again, and nothing else."""
    source = tmp_path / 'own_cached.py'
    source.write_text(CACHED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr('sys.dont_write_bytecode', True)
    module = importlib.import_module('own_cached')

    def computed(**settings):
        torch.manual_seed(0)
        encoder = build_encoder({'type': module.Cached, 'cache': {'folder': str(tmp_path / 'features')}, **settings})
        encoder(torch.rand(2, 3, 16, 16))
        return encoder.cache.misses

    assert computed() == 2
    assert computed() == 0
    assert computed(gain=2) == 2
    torch.save(module.Cached(gain=3).state_dict(), tmp_path / 'weights.pth')
    assert computed(weights=str(tmp_path / 'weights.pth')) == 2
    source.write_text(CACHED.replace('2 * x', '3 * x'))
    module = importlib.reload(module)
    assert computed() == 2
    assert computed() == 0


def test_a_registered_module(monkeypatch, weights):
    """By name: its arguments, file and maps are its entry's, and what a use says goes over them."""
    monkeypatch.setattr('mmgfnuc.models.foundation.catalogue.CATALOGUE', dict(catalogue.CATALOGUE))
    add_entry(entry_of('own-tissue', {'type': Own, 'width': 8, 'weights': weights, 'out_layers': [1]}))
    assert 'own-tissue' in mmgfnuc.list_foundation()
    named = {'type': 'mmgfnuc.foundation_encoder', 'name': 'own-tissue'}
    encoder = build_encoder(named)
    assert isinstance(encoder, ModuleEncoder)
    assert (encoder.out_channels, encoder.entry.name, encoder.entry.terms) == ((16,), 'own-tissue', '')
    assert encoder.weights_sha256.any()
    encoder = build_encoder({**named, 'arch': {'width': 4}, 'weights': 'random', 'out_layers': (0, 1)})
    assert encoder.out_channels == (4, 8)
    with pytest.raises(UserError, match="tune='lora' says how it is used; give it where the encoder is used"):
        entry_of('x', {'type': Own, 'tune': 'lora'})
    with pytest.raises(UserError, match='is not the class of a plain module; give an Entry'):
        entry_of('x', {'type': 'mmgfnuc.foundation_encoder', 'name': 'uni'})


class OwnViT(TimmViTEncoder):
    """A FoundationEncoder of one's own."""


def test_a_foundation_encoder_of_ones_own_by_name(monkeypatch):
    monkeypatch.setattr('mmgfnuc.models.foundation.catalogue.CATALOGUE', dict(catalogue.CATALOGUE))
    facts = {'arch': 'vit_tiny_patch16_224', 'mean': MEAN, 'std': STD}
    for name, kind in {'good': 'OwnViT', 'bad': 'Own'}.items():
        add_entry(Entry(name=name, encoder=f'{__name__}.{kind}', **facts))
    encoder = foundation_encoder('good', weights='random')
    assert (type(encoder).__name__, encoder.out_layers) == ('OwnViT', [2, 5, 8, 11])
    with pytest.raises(UserError, match=r"entry 'bad': encoder='.*Own' is no FoundationEncoder"):
        foundation_encoder('bad', weights='random')


def test_entries_of_configs(weights):
    by_name = entry_of_config({'type': 'mmgfnuc.foundation_encoder', 'name': 'UNI', 'tune': 'full'})
    assert by_name is catalogue.CATALOGUE['uni']
    entry = entry_of_config({'type': f'{__name__}.Own', 'width': 4, 'weights': weights})
    assert (entry.encoder, entry.arch, entry.settings) == ('module', f'{__name__}.Own', {'width': 4})
    assert entry.weight_file(None) is entry.weight_file('random') is None
    assert str(entry.weight_file(weights)) == weights

    class Subclass(ModuleEncoder):
        def __init__(self, weights=None, cache=None):
            super().__init__(entry, weights=weights, cache=cache)

    assert entry_of_config({'type': Subclass, 'weights': weights}).arch == entry.arch


def test_a_class_that_cannot_be_imported():
    """Such as one of a notebook: in this process it is found again."""

    class Local(Own):
        pass

    entry = entry_of('local', {'type': Local})
    assert ModuleEncoder(entry, weights='random').out_channels == (8, 16)
