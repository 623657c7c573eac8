"""A config names parts of one's own: they are found in the working folder too, and checked as those of the package."""

import sys

import pytest

import mmgfnuc
from mmgfnuc.engine.config import load_config, needs_its_config
from mmgfnuc.engine.settings import check_model
from mmgfnuc.errors import UserError

CONFIG = """
from mmgfnuc.models.segmentors import FusionSegmentor
{imports}

backbone = dict(type='mmgfnuc.UNetEncoder', widths=(4, 8))
foundation = dict(type='mmgfnuc.foundation_encoder', name='vit-tiny', weights='random')
neck = dict(type='mmgfnuc.FusionNeck', block=dict(type={block}, gain=0.5))
decode_head = dict(type='mmgfnuc.UNetHead')
model = dict(type=FusionSegmentor, backbone=backbone, foundation=foundation, neck=neck, decode_head=decode_head)
"""
CUSTOM = 'custom_imports = dict(imports=[{module!r}], allow_failed_imports={allowed})'
BY_CLASS = CONFIG.format(imports='from own_parts import FilmBlock', block='FilmBlock')
BY_NAME = CONFIG.format(imports=CUSTOM.format(module='own_parts', allowed=False), block="'own_parts.FilmBlock'")


@pytest.fixture
def own_config(own_parts, monkeypatch):
    """Writes a config into the working folder, which has the module of own parts too."""
    folder = own_parts(installed=False)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'path', [place for place in sys.path if place])

    def write(text):
        (folder / 'own.py').write_text(text)
        return 'own.py'

    return write


@pytest.mark.parametrize('text', [BY_CLASS, BY_NAME], ids=['class', 'name'])
def test_own_parts_are_parts(text, own_config):
    cfg = load_config(own_config(text))
    check_model(cfg)
    cfg.dump('dumped.py')
    check_model(load_config('dumped.py'))
    with pytest.raises(UserError, match=r'model.neck.block.gian; FilmBlock .*near it: gain'):
        check_model(load_config('own.py', {'model.neck.block.gian': 1.0}))


def test_a_checkpoint_needs_its_config_unless_a_package_brings_the_parts(own_config, own_parts):
    theirs = {'model.backbone': dict(type='mmseg.ResNet', depth=18, norm_cfg=dict(type='BN'))}
    assert not needs_its_config(load_config('configs/demo/demo.py', theirs))
    assert needs_its_config(load_config(own_config(BY_CLASS)))
    own_parts(entry_point='own_parts')
    assert not needs_its_config(load_config('own.py'))
    unregistered = BY_CLASS.replace('import FilmBlock', 'import NotNamed as FilmBlock')
    assert needs_its_config(load_config(own_config(unregistered)))


def test_an_imported_module_registers_its_names(own_config):
    load_config(own_config(BY_NAME))
    assert 'film' in mmgfnuc.list_fusions()


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (BY_CLASS.replace('own_parts', 'own_partz'), r'own\.py, line 3 for No module named .own_partz'),
        (BY_CLASS.replace('import FilmBlock', 'import Flim as FilmBlock'), 'Failed to import Flim from own_parts'),
        (BY_NAME.replace("['own_parts']", '5'), r'custom_imports\.imports=5: give'),
        (BY_NAME.replace("['own_parts']", "['own_partz']"), "custom_imports: module 'own_partz' is not found; start"),
        (
            BY_NAME.replace("['own_parts']", "'broken'"),
            "custom_imports: module 'broken' cannot be imported: ValueError: x",
        ),
    ],
)
def test_an_import_that_fails_is_told_in_one_line(text, said, own_config, own_parts):
    own_parts('broken', 'raise ValueError("x\\ny")', installed=False)
    with pytest.raises(UserError, match=said) as error:
        load_config(own_config(text))
    assert '\n' not in str(error.value)


def test_an_import_that_may_fail_is_told_too(own_config):
    with pytest.warns(UserWarning, match=r"custom_imports, left out: module 'own_partz' is not found"):
        load_config(own_config(CONFIG.format(imports=CUSTOM.format(module='own_partz', allowed=True), block="'x'")))


def test_only_for_a_file_of_ones_own_the_working_folder_is_looked_into(own_config):
    before = list(sys.path)
    load_config('configs/cpu/own_data.py')
    assert sys.path == before
    load_config(own_config(BY_CLASS))
    assert sys.path == [*before, sys.path[-1]]
