"""Options of a command line: how they are read, and what they may change."""

import argparse

import pytest
import torch

from mmgfnuc.engine.cli import ConfigOptions, parse_value
from mmgfnuc.engine.config import apply_options, load_config, set_seed
from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import META_KEYS
from tests.engine.test_launch import DEMO


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('5', 5),
        ('-1e-4', -1e-4),
        ('true', True),
        ('None', None),
        ('', ''),
        ('/data/My images/first set', '/data/My images/first set'),
        ("it's a set (old", "it's a set (old"),
        ('4,8, 16', [4, 8, 16]),
        ('(4, 8)', (4, 8)),
        ('(4,)', (4,)),
        ('[]', []),
        ('[(1, 2), [a b, c]]', [(1, 2), ['a b', 'c']]),
        ('[1,2],[3,4]', [[1, 2], [3, 4]]),
        ("'a, b'", 'a, b'),
        ('["a, b", 3]', ['a, b', 3]),
        ("'5'", '5'),
    ],
)
def test_values(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def parse(*words):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument('--cfg-options', action=ConfigOptions)
    return parser.parse_args(['--cfg-options', *words]).cfg_options


def test_pairs():
    assert parse('a.b=1', 'c=x=y z') == {'a.b': 1, 'c': 'x=y z'}


@pytest.mark.parametrize('pair', ['resume', '=5', 'a..b=1', 'a b=1', 'a =1', 'a=(1,2', 'a=[1,2)', ''])
def test_malformed_pairs(pair):
    with pytest.raises(argparse.ArgumentError) as caught:
        parse('x=1', pair)
    assert f"'{pair}'" in str(caught.value)
    assert any(said in str(caught.value) for said in ('KEY=VALUE; write for example', 'is missing', 'closes nothing'))


@pytest.fixture
def cfg():
    return load_config(str(DEMO))


def test_what_options_may_change(cfg):
    options = {
        'model.backbone.widths': (2, 4),
        'model.foundation.lora.rank': 8,
        'train_dataloader.dataset.pipeline.0.size': 64,
        'custom_hooks.1': None,
        'auto_scale_lr.enable': True,
        'work_dir': 'My runs',
    }
    apply_options(cfg, options)
    assert cfg.model.backbone.widths == (2, 4)
    assert cfg.model.foundation.lora == {'rank': 8}
    assert cfg.train_dataloader.dataset.pipeline[0].size == 64
    assert cfg.custom_hooks[1] is None
    assert cfg.auto_scale_lr == {'enable': True}
    assert cfg.work_dir == 'My runs'


@pytest.mark.parametrize(
    ('path', 'said'),
    [
        ('a.b.c', "there is no 'a'"),
        ('resme', 'near it: resume'),
        ('cudnn_benchmrk', 'near it: env_cfg.cudnn_benchmark'),
        ('lr', 'near it: optim_wrapper.optimizer.lr'),
        ('backbone.widths', "'backbone' is only a variable of the config file; near it: model.backbone.widths"),
        ('size', 'near it: train_dataloader.dataset.pipeline.0.size'),
        ('launcher', '--launcher'),
        ('train_dataloader.dataset.pipeline.99.size', 'has 6 entries'),
        ('train_dataloader.dataset.pipeline.first.size', "there is no 'first'"),
        ('randomness.seed.x', 'randomness.seed is 0'),
        ('load_from.path', 'load_from is None'),
    ],
)
def test_what_options_may_not_change(cfg, path, said):
    with pytest.raises(UserError) as caught:
        apply_options(cfg, {path: 1})
    assert path in str(caught.value)
    assert said in str(caught.value)


def test_a_seed_needs_training_data(cfg):
    for loader in (None, {}, {'dataset': 5}):
        cfg.train_dataloader = loader
        with pytest.raises(UserError, match=r'train_dataloader\.dataset'):
            set_seed(cfg, 1)


def test_the_config_of_a_checkpoint_names_parts_alone(tmp_path):
    """What else a `type` names would be imported, and called with the settings beside it."""
    meta = dict.fromkeys(META_KEYS, 1) | {'cfg': load_config(str(DEMO)).pretty_text}
    torch.save({'state_dict': {}, 'meta': meta}, tmp_path / 'ours.pth')
    cfg = load_config(str(tmp_path / 'ours.pth'))
    assert cfg.work_dir == str(tmp_path)
    assert cfg.train_cfg.max_iters == load_config(str(DEMO)).train_cfg.max_iters
    hostile = f"custom_hooks = [dict(type='os.system', command='touch {tmp_path}/ran')]"
    elsewhere = f"test_evaluator = dict(type='DumpResults', out_file_path='{tmp_path}/ran')"
    for text in (f'{meta["cfg"]}{line}' for line in (hostile, elsewhere, 'import os')):
        torch.save({'state_dict': {}, 'meta': meta | {'cfg': text}}, tmp_path / 'hostile.pth')
        with pytest.raises(
            UserError, match=r'hostile\.pth.*(no registered part|files would be written|no setting)'
        ) as error:
            load_config(str(tmp_path / 'hostile.pth'), {'train_cfg.max_iters': 3})
        assert '\n' not in str(error.value)
    assert not (tmp_path / 'ran').exists()
