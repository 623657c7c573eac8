import doctest
import re
from dataclasses import replace

import pytest
import timm
import torch

import mmgfnuc
from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import (
    CATALOGUE,
    Entry,
    FoundationEncoder,
    add_entry,
    catalogue,
    find_entry,
    foundation_encoder,
)
from mmgfnuc.models.foundation.catalogue.entry import quarters
from mmgfnuc.models.foundation.catalogue.timm_entry import completed
from mmgfnuc.testing import assert_gradients

from .reduced import reduced

NAMES = sorted(CATALOGUE)
OF_TIMM = sorted(name for name, entry in CATALOGUE.items() if (entry.hub or '').startswith('timm/'))


def architecture(entry):
    """What of an entry is left at the reduced size: neither the size of the network nor its weights."""
    sizes = r'_(tiny|small|base|large|giant|huge|so400m|b|l|h|\d{3})(?=_|$)'
    settings = {
        key: value
        for key, value in entry.settings.items()
        if key not in ('depth', 'embed_dim', 'img_size', 'num_heads')
    }
    return entry.encoder, re.sub(sizes, '', entry.arch), entry.patch, entry.resampling, entry.stretch, str(settings)


DISTINCT = {architecture(CATALOGUE[name]): name for name in reversed(NAMES)}.values()
each_entry = pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[] if name in DISTINCT else pytest.mark.slow) for name in NAMES]
)
each_architecture = pytest.mark.parametrize('name', DISTINCT)


def small(name, **settings):
    entry = find_entry(name)
    size = {} if entry.encoder == 'vit' else {'input_size': None}
    return foundation_encoder(name, **{'weights': 'random', 'arch': reduced(entry)} | size | settings)


def test_examples_of_the_docstrings():
    assert doctest.testmod(catalogue).failed == 0
    assert mmgfnuc.list_foundation() == NAMES
    assert mmgfnuc.list_foundation('SAM-*') == ['sam-vit-b', 'sam-vit-h', 'sam-vit-l']


@each_entry
def test_builds_as_published(name):
    """On the meta device: width, depth, patch, layers and native size are those of the network."""
    entry = CATALOGUE[name]
    with torch.device('meta'):
        encoder = foundation_encoder(name, weights='random', out_layers=(-1,))
    assert encoder.out_channels == (entry.width,)
    assert encoder.out_strides == (entry.patch,)
    assert encoder.input_size == entry.input_size
    assert entry.depth == (4 if entry.encoder == 'pyramid' else len(encoder.network.blocks))
    assert set(entry.layers) <= {'neck', *range(entry.depth)}
    if entry.encoder == 'vit':
        network, side = encoder.network, entry.native_size // entry.patch
        assert network.patch_embed.grid_size == (side, side)
        assert (network.pos_embed is None) == (entry.resampling is None)
        if entry.resampling:
            assert network.pos_embed.shape[1] - side**2 in (0, 1, network.num_prefix_tokens)


@pytest.mark.parametrize(
    'name', ['vit-tiny', 'dinov2-vit-s14-reg', 'dinov3-vit-s16', 'dinov3-convnext-tiny', 'sam2-hiera-tiny']
)
def test_what_is_left_out_is_derived(name):
    """An entry of its architecture, mean and std alone has the facts that the catalogue states."""
    stated = CATALOGUE[name]
    said = {key: getattr(stated, key) for key in ('name', 'arch', 'mean', 'std', 'settings')}
    derived = completed(Entry(**said))
    for fact in ('encoder', 'width', 'depth', 'patch'):
        assert getattr(derived, fact) == getattr(stated, fact)
    assert (derived.resampling is None) == (stated.resampling is None) or stated.encoder == 'pyramid'
    # The publishers of these had another size than timm.
    assert derived.native_size == stated.native_size or stated.family in ('SAM 2', 'DINOv3')


def test_an_entry_of_ones_own(weights_folder, monkeypatch):
    """By a file of one's own, found by its path; the same entry again is fine, another of the same name is not."""
    monkeypatch.setattr('mmgfnuc.models.foundation.catalogue.CATALOGUE', dict(CATALOGUE))
    file = weights_folder.parent / 'trained.pth'
    facts = dict(arch='vit_tiny_patch16_224', mean=(0.6, 0.5, 0.4), std=(0.2, 0.2, 0.2))
    entry = Entry(name='Mine', file=str(file), **facts)
    for _ in range(2):
        add_entry(replace(entry))
    assert 'Mine' in catalogue.list_foundation()
    found = find_entry('mine')
    assert (found.encoder, found.width, found.layers, found.native_size) == ('vit', 192, (2, 5, 8, 11), 224)
    assert found.terms == ''
    torch.save(foundation_encoder('mine', weights='random').network.state_dict(), file)
    assert foundation_encoder('mine').weights_sha256.any()
    for other, message in (
        (replace(entry, name='mine', patch=8), "foundation encoder 'mine': another has this name"),
        (replace(entry, name='UNI'), "foundation encoder 'UNI': another has this name"),
        (replace(entry, name='timm:mine'), "names with 'timm:' are those of timm"),
    ):
        with pytest.raises(UserError, match=message):
            add_entry(other)
    add_entry(Entry(name='lost', **facts | {'arch': 'vit_tinny'}))
    with pytest.raises(UserError, match="arch of the entry 'lost'='vit_tinny' is unknown"):
        find_entry('lost')
    file.unlink()
    with pytest.raises(UserError, match=r'trained\.pth.* are not there .*; give the path of their file, or set'):
        foundation_encoder('mine')


@pytest.mark.parametrize('name', OF_TIMM)
def test_agrees_with_the_entry_of_timm(name):
    """Mean, standard deviation and size of those whose weights timm offers; and the hub has that very name."""
    entry = CATALOGUE[name]
    known = timm.models.get_pretrained_cfg(entry.hub.removeprefix('timm/'))
    assert known.hf_hub_id == entry.hub
    assert entry.mean == pytest.approx(known.mean)
    assert entry.std == pytest.approx(known.std)
    if entry.family not in ('SAM 2', 'DINOv3'):  # the publisher's size is another one
        assert entry.native_size == known.input_size[1]


@pytest.mark.parametrize('name', NAMES)
def test_says_where_its_facts_are_from(name):
    entry = CATALOGUE[name]
    assert entry.sources
    assert entry.citation
    assert entry.page.startswith('https://')
    assert entry.sha256 is None or re.fullmatch('[0-9a-f]{64}', entry.sha256)
    assert (entry.hub is None) <= (entry.file is None or entry.encoder == 'sam')
    restricted = entry.non_commercial is not False or entry.gated
    assert bool(entry.terms) == bool(restricted)
    assert not entry.terms or (entry.name in entry.terms and entry.page in entry.terms)


@each_architecture
class TestEachArchitecture:
    """What of the contract depends on the architecture, at reduced size; all of it: test_contract.py."""

    @pytest.mark.parametrize('size', [(64, 64), (70, 90)])
    def test_shapes(self, name, size):
        encoder = small(name)
        assert isinstance(encoder, FoundationEncoder)
        features = encoder(torch.rand(2, 3, *size))
        assert isinstance(features, tuple)
        grids = encoder.grid_sizes(*size)
        strides = encoder.token_strides(*size)
        assert encoder.grid_size(*size) == grids[-1]
        assert len(features) == len(encoder.out_channels) == len(grids) == len(strides)
        for feature, channels, grid, stride in zip(features, encoder.out_channels, grids, strides, strict=True):
            assert feature.shape == (2, channels, *grid)
            assert feature.isfinite().all()
            assert grid == tuple(-(-side // int(stride)) for side in size)

    def test_each_image_for_itself(self, name):
        encoder = small(name)
        images = torch.rand(2, 3, 64, 64)
        both, alone = encoder(images), [encoder(image[None]) for image in images]
        for feature, *parts in zip(both, *alone, strict=True):
            torch.testing.assert_close(feature, torch.cat(parts), rtol=1e-3, atol=1e-4)

    def test_frozen(self, name):
        encoder = small(name).train()
        assert not any(module.training for module in encoder.modules())
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
        assert not any(feature.requires_grad for feature in encoder(torch.rand(1, 3, 64, 64)))

    def test_full_tuning_reaches_every_parameter(self, name):
        encoder = small(name, tune='full').train()
        sum((feature * torch.randn_like(feature)).sum() for feature in encoder(torch.rand(1, 3, 64, 64))).backward()
        assert_gradients(encoder)

    def test_layers_are_ordered_by_depth(self, name):
        encoder = small(name)
        depths = {encoder.layer_of(key) for key, _ in encoder.network.named_parameters()}
        assert depths <= set(range(encoder.num_layers))
        assert 0 in depths
        assert len(depths) > 2


def test_default_layers():
    assert quarters(12) == (2, 5, 8, 11)
    assert quarters(24) == (5, 11, 17, 23)
    assert CATALOGUE['dinov2-vit-g14'].layers == (9, 19, 29, 39)


def test_names_are_forgiving():
    assert find_entry('UNI') is find_entry('uni') is CATALOGUE['uni']
    assert find_entry('SAM_ViT_B') is CATALOGUE['sam-vit-b']


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('dinov2-vitb14', "foundation='dinov2-vitb14' is unknown; did you mean dinov2-vit-b14[?]"),
        ('sam', 'did you mean sam-vit-b or sam-vit-h or sam-vit-l'),
        ('resnet', r'mmgfnuc.list_foundation\(\) lists the names, and .* is any ViT or pyramid of timm'),
        ('timm:vit_tiny', "foundation.name='vit_tiny' is unknown; did you mean vit_tiny_.* or "),
        ('timm:convmixer_768_32', 'gives no layers of a ViT nor of a pyramid'),
        ('timm:coat_tiny', r"timm's 'coat_tiny' .* does not take images of any size: Input height"),
        ('timm:nasnetalarge', r'any size: its features are \[\(31, 47\), .* for 64x96 pixels, not \[\(32, 48\)'),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UserError, match=message) as error:
        find_entry(name)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('name', 'encoder', 'patch', 'layers'),
    [
        ('timm:vit_tiny_patch16_224', 'vit', 16, (2, 5, 8, 11)),
        ('timm:vit_small_patch14_dinov2.lvd142m', 'vit', 14, (2, 5, 8, 11)),
        ('timm:resnet18', 'pyramid', 32, (0, 1, 2, 3, 4)),
        ('timm:vit_tiny_r_s16_p8_224', 'vit', 32, (2, 5, 8, 11)),
        ('timm:fastvit_t8', 'pyramid', 32, (0, 1, 2, 3)),
        ('timm:selecsls42', 'pyramid', 64, (0, 1, 2, 3, 4, 5)),
        ('timm:convnext_atto', 'pyramid', 32, (0, 1, 2, 3)),
    ],
)
def test_any_model_of_timm(name, encoder, patch, layers):
    entry = find_entry(name)
    assert (entry.encoder, entry.patch, entry.layers) == (encoder, patch, layers)
    built = foundation_encoder(name, weights='random', out_layers=(0, -1))
    assert [f.shape[1] for f in built(torch.rand(1, 3, 64, 64))] == list(built.out_channels)


def test_images_are_stretched_where_the_publisher_does_so():
    """MedSAM: each image to its own minimum and maximum, and nothing else."""
    encoder = small('medsam-vit-b', out_layers=(0,))
    images = torch.rand(2, 3, 32, 32)
    low = images.flatten(1).min(1).values[:, None, None, None]
    high = images.flatten(1).max(1).values[:, None, None, None]
    (own,), (expected,) = encoder(0.2 + 0.3 * images), encoder.encode((images - low) / (high - low))
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)
