"""Options of a command line: how they are read, and what they may change."""

import argparse

import pytest
import torch

from mmgfnuc.engine.cli import ConfigOptions, parse_value
from mmgfnuc.engine.config import apply_options, load_config, set_seed
from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import META_KEYS
from mmgfnuc.inference.dumped_config import read_dumped
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


@pytest.fixture
def carrying(tmp_path):
    """Writes a checkpoint that carries the demo's config with something added; gives its path."""
    text = load_config(str(DEMO)).pretty_text

    def write(added='', name='hostile.pth'):
        meta = {key: kind() for key, kind in META_KEYS.items()} | {'cfg': f'{text}{added}'}
        torch.save({'state_dict': {}, 'meta': meta}, tmp_path / name)
        return str(tmp_path / name)

    return write


def test_the_config_of_a_checkpoint_names_parts_alone(tmp_path, carrying):
    """What else a `type` names would be imported, and called with the settings beside it."""
    cfg = load_config(carrying())
    assert cfg.work_dir == str(tmp_path)
    assert cfg.train_cfg.max_iters == load_config(str(DEMO)).train_cfg.max_iters
    hostile = f"custom_hooks = [dict(type='os.system', command='touch {tmp_path}/ran')]"
    elsewhere = f"test_evaluator = dict(type='DumpResults', out_file_path='{tmp_path}/ran')"
    shown = f"custom_hooks = [dict(type='mmgfnuc.PredictionHook', show_dir='{tmp_path}/ran')]"
    scope = "default_scope = 'antigravity'"
    for added in (hostile, elsewhere, shown, scope, 'import os'):
        with pytest.raises(
            UserError, match=r'hostile\.pth.*(not a registered part|files would be written|not a setting)'
        ) as error:
            load_config(carrying(added), {'train_cfg.max_iters': 3})
        assert '\n' not in str(error.value)
    assert not (tmp_path / 'ran').exists()


def test_what_is_taken_of_the_config_of_a_checkpoint(carrying, capsys):
    """No place to write, no server, no variable of the file."""
    added = "visualizer = dict(vis_backends=[dict(type='LocalVisBackend', config_save_file='/x.py')])\n"
    added += 'env_cfg = dict(cudnn_benchmark=True, resource_limit=1000000000)\n'
    added += "experiment_name = '../../x'\nrunner_type = 'os.system'\nvariable = 3\n"
    added += "custom_imports = dict(imports=['antigravity'])\nlauncher = 'slurm'\n"
    added += "custom_hooks = [dict(type='mmgfnuc.CheckpointGuardHook'), dict(type='EMAHook')]\n"
    cfg = load_config(carrying(added))
    absent = ('visualizer', 'experiment_name', 'runner_type', 'variable', 'custom_imports', 'launcher')
    assert not set(absent) & set(cfg.keys())
    assert cfg.env_cfg == {'cudnn_benchmark': True}
    assert cfg.custom_hooks == [{'type': 'mmgfnuc.CheckpointGuardHook'}]
    assert "1 hooks of the config in checkpoint '" in capsys.readouterr().err
    assert read_dumped(cfg.pretty_text, 'x').to_dict() == cfg.to_dict()


def test_a_key_of_a_carried_config_is_no_code(carrying):
    """MMEngine writes keys unescaped into the record of a test."""
    key = "x': __import__('os').abort(), 'y"
    with pytest.raises(UserError, match=r"hostile\.pth' is not read: the key"):
        load_config(carrying(f'model = dict({{{key!r}: 1}})'))


def test_a_cache_of_a_carried_config_is_forgotten(carrying):
    cfg = load_config(carrying("model = dict(foundation=dict(name='a', cache=dict(folder='/x')))"))
    assert cfg.model == {'foundation': {'name': 'a'}}
