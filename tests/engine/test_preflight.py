"""The rehearsal of a run: what a part raises becomes one line, and nothing is left behind."""

import warnings
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope
from mmengine.visualization import Visualizer

from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.engine.config import load_config
from mmgfnuc.engine.preflight import rehearse
from mmgfnuc.engine.settings import check_settings
from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones import UNetEncoder
from tests.engine.test_launch import DEMO


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp('rehearsal')
    write_dataset(folder / 'data', num_train=2, num_val=1, size=64, seed=0)
    options = {f'{part}_dataloader.dataset.data_root': str(folder / 'data') for part in ('train', 'val', 'test')}
    options |= {'model.backbone.widths': (4, 8), 'model.decode_head.skip_channels': 4}
    options |= {'model.foundation.arch': dict(embed_dim=24, depth=2, num_heads=3, global_attn_indexes=(1,))}
    options |= {'train_dataloader.batch_size': 2, 'train_dataloader.dataset.pipeline.0.size': 32}
    cfg = Config.fromfile(DEMO)
    cfg.merge_from_dict(options)
    cfg.dump(folder / 'small.py')
    return folder / 'small.py'


@pytest.fixture
def cfg(path, tmp_path):
    return load_config(str(path), work_dir=str(tmp_path / 'run'))


@pytest.fixture
def register():
    """Registers parts of a user for one test."""
    added = []

    def add(registry, part):
        registry.register_module(module=part)
        added.append((registry, part.__name__))

    yield add
    for registry, name in added:
        registry._module_dict.pop(name)


def test_a_rehearsal_leaves_nothing_behind(cfg, tmp_path):
    cfg.visualizer = dict(type='Visualizer', name='mine', vis_backends=[dict(type='LocalVisBackend')])
    cfg.model.foundation.cache = dict(folder=str(tmp_path / 'features'))
    before, state = cfg.to_dict(), torch.get_rng_state()
    kinds = Visualizer, MessageHub, DefaultScope
    named = [dict(kind._instance_dict) for kind in kinds]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        rehearse(cfg, 'train', 'val')
    assert [dict(kind._instance_dict) for kind in kinds] == named
    assert cfg.to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert list(tmp_path.iterdir()) == []


def refusal(cfg, *parts):
    check_settings(cfg, *parts)
    with pytest.raises(UserError) as caught:
        rehearse(cfg, *parts)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ('setting', 'value', 'said'),
    [
        ('optim_wrapper.optimizer.lr', -1, 'optim_wrapper.optimizer cannot be built of lr=-1'),
        ('param_scheduler.begin', 500, 'begin=500'),
        ('model.decode_head.loss_decode.type', 'NoLoss', "model.decode_head.loss_decode.type='NoLoss'; near it"),
        ('model.neck.block.preset', 'nosuch', "model.neck.block: preset='nosuch'"),
        ('default_hooks.checkpoint.save_best', 'nosuch', 'default_hooks.checkpoint cannot be built'),
        ('val_dataloader.dataset.part', 'nosuch', "val_dataloader.dataset: part='nosuch'"),
        ('train_dataloader.dataset.pipeline.0.size', -4, 'train_dataloader.dataset.pipeline.0: size=-4'),
        ('model.decode_head.num_classes', 3, 'num_classes=3'),
    ],
)
def test_a_value_that_a_part_refuses(cfg, setting, value, said):
    cfg.merge_from_dict({setting: value})
    assert said in refusal(cfg, 'train', 'val')


class Fails(Hook):
    def __init__(self, **settings):
        raise AttributeError('of this hook')


def test_a_part_without_settings_that_fails_keeps_its_error(cfg, register):
    register(HOOKS, Fails)
    cfg.custom_hooks = [dict(type='Fails')]
    with pytest.raises(AttributeError, match='of this hook'):
        rehearse(cfg, 'train')
    cfg.custom_hooks = [dict(type='Fails', every=3)]
    assert refusal(cfg, 'train') == 'custom_hooks.0 cannot be built of every=3: AttributeError: of this hook'


class Reads:
    def __init__(self, path):
        Path(path).read_bytes()


def test_a_file_that_a_part_lacks_is_named(cfg, register):
    register(HOOKS, Reads)
    cfg.custom_hooks = [dict(type='Reads', path='nosuch.pth')]
    assert refusal(cfg, 'train').endswith("FileNotFoundError: [Errno 2] No such file or directory: 'nosuch.pth'")


class Brightens:
    def __init__(self, by):
        self.by = by

    def __call__(self, results):
        results['img'] = results['img'] * self.by.factor
        return results


def test_a_part_without_the_settings_that_it_needs(cfg):
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline.insert(len(pipeline) - 1, dict(type='mmgfnuc.HoverTarget'))
    said = f'train_dataloader.dataset.pipeline.{len(pipeline) - 2} cannot be built without settings: missing 1 required'
    assert refusal(cfg, 'train').startswith(said)


def test_a_step_that_fails_on_the_first_sample(cfg, register):
    register(TRANSFORMS, Brightens)
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='Brightens', by='two'))
    text = refusal(cfg, 'train')
    assert text.startswith("train_dataloader.dataset.pipeline.2 cannot be built of by='two': AttributeError: ")


class Counts(UNetEncoder):
    """A model that cannot be built without memory."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.total = torch.linspace(0, 1, 3).sum().item()


def test_a_model_that_needs_memory(cfg, register):
    register(MODELS, Counts)
    cfg.model.backbone.type = 'Counts'
    rehearse(cfg, 'train')
    cfg.model.backbone.widths = (4, 0)
    assert refusal(cfg, 'train').startswith('model.backbone: ')


def test_a_weight_file_that_is_not_there(cfg):
    cfg.model.foundation.weights = 'nosuch.pth'
    assert "'nosuch.pth' (model.foundation.weights)" in refusal(cfg, 'train', 'val')
    # What is wrong with the settings goes first: a file may have to be fetched.
    cfg.optim_wrapper.optimizer.lr = -1
    assert 'lr=-1' in refusal(cfg, 'train', 'val')


def test_the_test_part_alone(cfg):
    cfg.train_dataloader.dataset.data_root = 'nowhere'
    assert 'nowhere' in refusal(cfg, 'train')
    assert rehearse(cfg, 'test') is None


def test_norms_that_need_gpus_are_refused_in_several_processes(cfg, monkeypatch):
    """MMSegmentation's configs have them; in one process they train as others do."""
    cfg.model.auxiliary_head = dict(type='mmseg.FCNHead', channels=2, num_convs=1, norm_cfg=dict(type='SyncBN'))
    rehearse(cfg, 'train')
    monkeypatch.setattr('mmgfnuc.engine.preflight.is_distributed', lambda: True)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert 'SyncBN trains in several processes on GPUs only' in refusal(cfg, 'train')


@pytest.mark.parametrize(
    ('part', 'where'), [('backbone', 'model.backbone'), ('auxiliary_head', 'model.auxiliary_head.1')]
)
def test_a_part_without_its_scope(cfg, part, where):
    head = dict(type='FCNHead', channels=2)
    cfg.model[part] = dict(type='ResNet', depth=18) if part == 'backbone' else [dict(type='mmgfnuc.UNetHead'), head]
    assert refusal(cfg, 'train').startswith(f'{where}: a part does not exist')
