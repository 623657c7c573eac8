"""Configs as data: what MMEngine writes is read as MMEngine reads it, and nothing else is."""

import math
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS

from mmgfnuc.errors import UserError
from mmgfnuc.inference.dumped_config import (
    MODEL_PARTS,
    OUTPUTS,
    check_outputs,
    check_registered,
    find_part,
    forget_caches,
    read_dumped,
)
from mmgfnuc.models.backbones import UNetEncoder

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ALL = sorted(path for path in CONFIGS.rglob('*.py') if not {'_base_', 'studies'} & set(path.parts))


@pytest.mark.parametrize('path', ALL[::10], ids=lambda path: path.stem)
def test_a_dumped_config_is_what_it_was(path):
    text = Config.fromfile(path).pretty_text
    read = read_dumped(text, 'x')
    assert read.to_dict() == Config.fromstring(text, '.py').to_dict()
    assert read.pretty_text == text
    check_registered(read.to_dict(), 'x')


def test_every_form_of_a_setting():
    config = Config(
        dict(
            number=-1,
            small=-1e-07,
            endless=-math.inf,
            flag=True,
            nothing=None,
            words='a\n"b"\'c\'',
            names=['x', ('y', ('z',)), ()],
            places={'a.b': {'c d': [1, {}]}, 'e': 2},
            numbers={1: 2.5},
            kind=UNetEncoder,
        )
    )
    read = read_dumped(config.pretty_text, 'x').to_dict()
    kind = read.pop('kind')
    assert read == {key: value for key, value in config.to_dict().items() if key != 'kind'}
    assert find_part(kind) is UNetEncoder


CODE = [
    "import os\nos.system('true')",
    "a = __import__('os').system('true')",
    'a = [x for x in (1, 2)]',
    "a = dict(**{'b': 1})",
    'a = dict(dict())',
    'a = {**{}}',
    "a = f'{1}'",
    'a = 1 + 1',
    'a = lambda: 1',
    'a = (b := 1)',
    'a.b = 1',
    'a = b = 1',
    'a: int = 1',
    'def f(): pass',
    'if True: a = 1',
    'a = x().y',
    'a = ...',
    'a = {dict(): 1}',
    'a = (',
    'a = 1\0',
    "filename = 'x'",
    'a = ' + '(' * 300,
    'a = ' + '-' * 10**5 + '1',
    'a = b' + '.c' * 10**5,
    'a = ' + '9' * 5000,
    "a = '" + 'x' * 2**20 + "'",
    *(f'a = dict({{{key!r}: 1}})' for key in ("x': evil(), 'y", "it's", 'a\\', 'a\nb', 'a\u2028b', '{{$A:b}}')),
    *(f'a = {{{key}: 1}}' for key in ("'class'", "'None'", 'None', 'True', "b'x'")),
    # Of a config file MMEngine makes something else.
    "a = '{{$HOME:b}}'",
    None,
    3,
]


@pytest.mark.parametrize('text', CODE, ids=lambda text: str(text)[:30])
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(UserError, match=r'the config in a\.pth is not read: ') as caught:
        read_dumped(text, 'a.pth')
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    'name',
    ['os.system', 'subprocess.call', 'antigravity', 'builtins.exec', 'mmengine.load', 'torch.load', 'evil.Part', '', 3],
)
def test_a_type_that_is_no_registered_part_is_refused(name):
    with pytest.raises(UserError, match=r'the config in a\.pth names type=.*which is not a registered part'):
        check_registered({'model': [{'neck': dict(type=name)}]}, 'a.pth')


def test_a_scope_of_another_package():
    with pytest.raises(UserError, match="_scope_='evil'"):
        check_registered(dict(type='mmgfnuc.UNetEncoder', _scope_='evil'), 'a.pth')
    check_registered(dict(type='UNetEncoder', _scope_='mmgfnuc'), 'a.pth')


@pytest.mark.parametrize('scope', ['evil', 'os', '', 3, ['mmseg']])
def test_a_default_scope_is_a_package_that_is_imported_anyway(scope):
    """MMEngine imports `<scope>.registry`."""
    for settings in ({'default_scope': scope}, {'model': [{'default_scope': scope}]}):
        with pytest.raises(UserError, match='names default_scope='):
            check_registered(settings, 'a.pth')
    for known in ('mmseg', 'mmgfnuc', None):
        check_registered({'default_scope': known}, 'a.pth')


@pytest.mark.parametrize('key', ['constructor', 'ema_type', 'conv_type'])
def test_other_settings_that_name_a_part(key):
    with pytest.raises(UserError, match=f"names {key}='os.system'"):
        check_registered({'optim_wrapper': {key: 'os.system'}}, 'a.pth')
    check_registered({'constructor': 'mmgfnuc.engine.TrainableParamsConstructor', 'conv_type': 'Conv2d'}, 'a.pth')


@pytest.mark.parametrize(
    'name',
    [
        'mmengine.dataset.BaseDataset',
        'mmseg.datasets.BaseSegDataset',
        'LoadBiomedicalImageFromFile',
        'mmcv.transforms.LoadImageFromFile',
        'LocalVisBackend',
        'mmengine.visualization.WandbVisBackend',
        'Visualizer',
    ],
)
def test_readers_and_writers_of_other_packages_are_refused(name):
    """They unpickle what a setting names, or write and send where one says."""
    with pytest.raises(UserError, match='not a registered part'):
        check_registered({'x': dict(type=name)}, 'a.pth')


@pytest.mark.parametrize('key', OUTPUTS)
def test_settings_that_say_where_to_write(key):
    with pytest.raises(UserError, match=f"says {key}='x'"):
        check_outputs({'a': [{'b': {key: 'x'}}]}, 'a.pth')
    check_outputs({'a': [{'b': {key: None}}]}, 'a.pth')


def test_caches_are_forgotten():
    model = {'foundation': {'name': 'x', 'cache': {'folder': '/a'}}, 'parts': [{'cache': {'folder': '/b'}, 'c': 1}]}
    forget_caches(model)
    assert model == {'foundation': {'name': 'x'}, 'parts': [{'c': 1}]}
    forget_caches(None)


def test_a_model_has_parts_of_models():
    runner = dict(type='mmengine.hooks.CheckpointHook')
    check_registered(runner, 'a.pth')
    with pytest.raises(UserError, match='not a registered part'):
        check_registered(runner, 'a.pth', MODEL_PARTS)


def test_a_part_of_the_users_own_counts_once_it_is_imported(monkeypatch):
    name = f'{__name__}.Own'
    assert find_part(name) is None
    MMENGINE_MODELS.register_module(name='Own', module=Own)
    try:
        assert find_part(name) is Own
    finally:
        MMENGINE_MODELS.module_dict.pop('Own')


class Own:
    """A part of another package."""
