"""The names of presets and encoders: as users spell them, or refused with near ones."""

import doctest
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

import mmgfnuc
from mmgfnuc import list_fusions, list_heads, list_unets, names
from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation.catalogue import find_entry
from mmgfnuc.presets import read_preset, shipped_presets

BASE = Path(__file__).parents[1] / 'configs' / '_base_'


@pytest.mark.parametrize(('kind', 'listed'), [('unets', list_unets), ('fusion', list_fusions), ('heads', list_heads)])
def test_the_presets_are_the_files_of_the_configs(kind, listed):
    """Each once, and in the order of the alphabet."""
    stems = {path.stem for path in (BASE / kind).glob('*.py')}
    assert listed() == sorted(listed())
    assert {name.replace('+', 'plus').replace('-', '_') for name in listed()} == stems
    assert len(listed()) == len(stems)


def test_presets_come_with_the_package(tmp_path, monkeypatch):
    """A new file is a new preset."""
    monkeypatch.setattr(mmgfnuc, '__file__', str(tmp_path / '__init__.py'))
    target = tmp_path / 'configs' / '_base_' / 'unets'
    target.mkdir(parents=True)
    shutil.copy(BASE / 'unets' / 'unet.py', target / 'installed_plusplus.py')
    assert list_unets() == ['installed-++']
    assert shipped_presets('unets') == {'installed-++': target / 'installed_plusplus.py'}


@pytest.mark.parametrize(
    ('kind', 'name', 'file'),
    [
        *(('unets', name, 'unet3plus') for name in ('unet3+', 'unet3plus', 'UNET3PLUS', 'Unet3Plus')),
        *(('fusion', name, 'gate_only') for name in ('gate-only', 'gate_only', 'Gate-Only')),
    ],
)
def test_names_are_forgiving(kind, name, file):
    assert read_preset(kind, kind, name) == Config.fromfile(BASE / kind / f'{file}.py').to_dict()


@pytest.mark.parametrize('name', ['vit-tiny', 'vit_tiny', 'VIT_TINY'])
def test_names_of_foundation_encoders(name):
    assert find_entry(name).name == 'vit-tiny'
    assert find_entry('timm:vit_tiny_patch16_224').name == 'timm:vit_tiny_patch16_224'


@pytest.mark.parametrize(
    ('kind', 'name', 'hint'),
    [
        ('unets', 'unet-3plus', r'did you mean unet3\+\?$'),
        ('unets', 'UNetPP', r'did you mean unet\+\+\?$'),
        ('unets', 'u2_net', r'did you mean u2net\?$'),
        ('unets', 'UNt', r'did you mean unet\b.*\?$'),
        ('unets', 'eunet3', r'did you mean eunet3\+'),
        ('unets', 'deeplab', r'choose one of .*eunet3\+, .*unet, .*'),
        ('unets', 3, r'choose one of .*unet, .*'),
        ('fusion', 'contex', r'did you mean context\b.*\?$'),
        ('fusion', 'gateonly', r'did you mean gate-only\b.*\?$'),
        ('fusion', 'xyz', 'choose one of add, .*, zero-context; one of your own is'),
    ],
)
def test_unknown_names_get_a_suggestion(kind, name, hint):
    with pytest.raises(UserError, match=rf"^{kind}='{name}' is unknown; {hint}"):
        read_preset(kind, kind, name)


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('sam_vitb', r'did you mean sam-vit-b\b'),
        ('dinov3', 'did you mean dinov3-convnext-base or .*dinov3-vit-b16'),
        ('?', r'mmgfnuc.list_foundation\(\) lists the names'),
    ],
)
def test_unknown_encoders_get_a_suggestion(name, hint):
    with pytest.raises(UserError, match=hint):
        find_entry(name)


def test_examples():
    assert doctest.testmod(names).failed == 0
