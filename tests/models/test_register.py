"""Own parts under names of their own: what a model is made of by name, and what is kept of it."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

import mmgfnuc
from mmgfnuc import create_model, list_foundation, list_fusions, list_heads, list_unets
from mmgfnuc.errors import UserError
from mmgfnuc.inference.dumped_config import check_registered, read_dumped
from mmgfnuc.models.necks import AddFusionBlock, FusionNeck
from mmgfnuc.presets import model_config, model_parts, read_preset

ENCODER = {'type': 'mmgfnuc.foundation_encoder', 'name': 'vit-tiny', 'weights': 'random', 'arch': {'depth': 4}}


@pytest.fixture
def own(own_parts):
    """The module, imported."""
    own_parts()
    import own_parts as module

    return module


def test_they_are_made_by_name_like_ours(own):
    assert 'own-unet' in list_unets()
    assert 'film' in list_fusions()
    assert 'own-head' in list_heads()
    assert 'own-encoder' in list_foundation()
    parts = {'neck': {'block': {'gain': 2.0}}}
    model = create_model('OWN_UNET', 'own_encoder', 'film', 'own-head', weights='random', parts=parts).eval()
    assert type(model.backbone) is own.OwnUNet
    assert any(isinstance(module, own.OwnEncoder) for module in model.foundation.modules())
    assert type(model.decode_head) is own.OwnHead
    assert type(model.neck) is FusionNeck
    assert [(type(block), block.gain) for block in model.neck.blocks.values()] == [(own.FilmBlock, 2.0)]
    with torch.no_grad():
        assert model(torch.rand(1, 3, 40, 33)).shape == (1, 3, 40, 33)


def test_names_and_settings_are_checked_as_those_of_ours(own):
    with pytest.raises(UserError, match=r"fusion='xyz' is unknown; choose one of .*film.*; one of your own"):
        mmgfnuc.create_model(foundation='own-encoder', fusion='xyz')
    with pytest.raises(UserError, match=r"fusion='flim' is unknown; did you mean film\?"):
        create_model(foundation=ENCODER, fusion='flim')
    with pytest.raises(UserError, match=r'parts.neck.block.gian; FilmBlock .*near it: gain'):
        create_model(foundation=ENCODER, fusion='film', parts={'neck': {'block': {'gian': 1}}})


def test_the_config_of_a_model_is_data_that_needs_no_names(own):
    """Dotted names in the place of classes and of registered names, as it is written into a checkpoint."""
    parts = model_parts('own-unet', 'own-encoder', 'film', 'own-head', 2, 3, 'random', None)
    assert parts['backbone']['type'] == 'own_parts.OwnUNet'
    assert parts['neck'] == {'type': 'mmgfnuc.FusionNeck', 'block': {'type': 'own_parts.FilmBlock', 'gain': 0.5}}
    assert parts['head']['type'] == 'own_parts.OwnHead'
    assert parts['foundation'] == {'type': 'own_parts.OwnEncoder', 'width': 5, 'weights': 'random'}
    config = {'model': model_config(parts)}
    read = read_dumped(Config(config).pretty_text, 'x').to_dict()
    assert read == config
    check_registered(read, 'x')


def test_a_preset_is_not_changed_by_who_reads_it(own):
    read_preset('fusion', 'fusion', 'film')['neck']['block']['gain'] = 7
    assert read_preset('fusion', 'fusion', 'film')['neck']['block']['gain'] == 0.5


def test_a_name_means_one_thing(own):
    block = {'type': own.FilmBlock, 'gain': 0.5}
    mmgfnuc.register_fusion('FILM', block)
    mmgfnuc.register_fusion('film', {'type': 'mmgfnuc.FusionNeck', 'block': {**block, 'type': 'own_parts.FilmBlock'}})
    for name, said in (
        ('film', 'is registered already'),
        ('Gate_Only', 'comes with mmgfnuc'),
        ('a b', 'a name is made'),
    ):
        with pytest.raises(UserError, match=said):
            mmgfnuc.register_fusion(name, {'type': AddFusionBlock})
    with pytest.raises(UserError, match='comes with mmgfnuc'):
        mmgfnuc.register_unet('unet', {'type': own.OwnUNet})


def test_what_cannot_be_written_down_or_built_is_refused(own):
    class Local(AddFusionBlock):
        pass

    refused = {
        'cannot be imported': {'type': Local},
        r"does not exist: neck.type='own_parts.Flim'": {'type': 'own_parts.Flim'},
        'near it: gain': {'type': own.FilmBlock, 'gian': 1},
        'holds numbers': {'type': own.FilmBlock, 'gain': torch.ones(1)},
        'give a config': own.FilmBlock,
        r'type=Sequential\( .*define it at the top of a module': {'type': nn.Sequential(nn.ReLU(), nn.ReLU())},
        r'torch.nn.modules.linear.Linear is not a FusionBlock; derive a block': {'type': nn.Linear},
        r'near it: own_parts.FilmBlock': {'type': 'own_part.FilmBlock'},
        "has no 'type'": {'gain': 1},
    }
    for said, neck in refused.items():
        with pytest.raises(UserError, match=said) as error:
            mmgfnuc.register_fusion('mine', neck)
        assert '\n' not in str(error.value)
    with pytest.raises(UserError, match=r'not an InstanceHead.*register_unet'):
        mmgfnuc.register_head('mine', {'type': 'mmgfnuc.UNetHead'})
    for swapped in (dict(backbone='mmgfnuc.UNetHead'), dict(backbone=own.OwnUNet, decode_head=own.OwnUNet)):
        with pytest.raises(UserError, match='give an encoder as backbone, and as decode_head a decode head'):
            mmgfnuc.register_unet('mine', **{part: {'type': kind} for part, kind in swapped.items()})
    with pytest.raises(UserError, match="OwnEncoder has no 'widht'; near it: width"):
        mmgfnuc.register_encoder('mine', {'type': own.OwnEncoder, 'widht': 4})
    assert not {'mine'} & {*list_fusions(), *list_heads(), *mmgfnuc.list_foundation()}


def test_an_entry_of_the_catalogue(own):
    entry = mmgfnuc.models.foundation.find_entry('vit-tiny')
    mmgfnuc.register_encoder('My_ViT', entry)
    assert mmgfnuc.models.foundation.find_entry('my-vit').arch == entry.arch
    assert model_parts('unet', 'my_vit', 'add', 'semantic', 2, 3, None, None)['foundation'] == {
        'type': 'mmgfnuc.foundation_encoder',
        'name': 'my-vit',
    }
    with pytest.raises(UserError, match='uni'):
        mmgfnuc.register_encoder('uni', entry)
