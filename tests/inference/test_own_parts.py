"""A checkpoint with parts of one's own: their package brings them, or a config that is named; the file imports none."""

import sys

import pytest

from mmgfnuc.engine.config import load_config
from mmgfnuc.errors import UserError
from mmgfnuc.inference import Predictor

from .small_models import FUSED


@pytest.fixture
def checkpoint(own_parts, checkpoint_of):
    """Of a model with a fusion block of one's own, by a module that is then forgotten; and where that lies."""

    def write(block='FilmBlock'):
        folder = own_parts()
        model = {**FUSED, 'neck': {'type': 'mmgfnuc.FusionNeck', 'block': {'type': f'own_parts.{block}'}}}
        path = checkpoint_of('own', model)
        sys.path.remove(str(folder))
        return path, own_parts(installed=False)

    return write


def test_an_installed_package_brings_them(checkpoint, own_parts, image):
    path, _ = checkpoint()
    own_parts(entry_point='own_parts')
    assert Predictor(path, device='cpu')(image).labels.max() > 0
    load_config(str(path))


def test_without_it_the_file_alone_imports_nothing(checkpoint, own_parts, monkeypatch):
    """Neither from the working folder, nor a module that is installed and names no parts of this project."""
    path, folder = checkpoint()
    monkeypatch.chdir(folder)
    for installed in (False, True):
        own_parts(installed=installed)
        for read in (load_config, Predictor):
            with pytest.raises(UserError, match=r"own_parts.FilmBlock.*--config.*entry point 'mmgfnuc.parts'"):
                read(str(path))
        assert 'own_parts' not in sys.modules


def test_a_config_that_is_named_brings_them(checkpoint, monkeypatch, image):
    path, folder = checkpoint()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'path', [place for place in sys.path if place])
    model = {**FUSED, 'neck': {'type': 'mmgfnuc.FusionNeck', 'block': {'type': 'own_parts.FilmBlock'}}}
    (folder / 'own.py').write_text(f"custom_imports = dict(imports=['own_parts'])\nmodel = {model}\n")
    assert Predictor(path, load_config('own.py'), 'cpu')(image).labels.max() > 0


def test_of_an_installed_package_only_what_it_registers_is_a_part(checkpoint, own_parts):
    path, _ = checkpoint('NotNamed')
    own_parts(entry_point='own_parts')
    with pytest.raises(UserError, match=r'own_parts.NotNamed.*not a registered part'):
        Predictor(path)
