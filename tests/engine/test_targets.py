"""The head names the transform that makes what it learns; the launcher puts it into the training pipeline."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmgfnuc.datasets.transforms import BoundaryTarget, DistanceTarget, HoverTarget, PackNucleiInputs
from mmgfnuc.engine.config import load_config
from mmgfnuc.engine.targets import add_target
from mmgfnuc.registry import TRANSFORMS

CONFIGS = Path(__file__).parents[2] / 'configs'
TARGETS = {'dual_decoder': DistanceTarget, 'hover': HoverTarget, 'boundary': BoundaryTarget}


def kinds(pipeline):
    types = [transform['type'] for transform in pipeline]
    return [TRANSFORMS.get(kind) if isinstance(kind, str) else kind for kind in types]


def pipelines(config):
    return [kinds(config[f'{part}_dataloader'].dataset.pipeline) for part in ('train', 'val', 'test')]


@pytest.mark.parametrize('head', TARGETS)
def test_before_the_packing_of_the_training_pipeline(head):
    path = str(CONFIGS / 'instances' / f'unet_context_{head}.py')
    train, *others = pipelines(load_config(path))
    assert train[-2:] == [TARGETS[head], PackNucleiInputs]
    before, *untouched = pipelines(Config.fromfile(path))
    assert train == [*before[:-1], TARGETS[head], PackNucleiInputs]
    assert others == untouched


@pytest.mark.parametrize('path', ['instances/unet_context_semantic.py', 'paper/nuinsseg_none.py'])
def test_a_head_without_auxiliary_maps(path):
    assert pipelines(load_config(str(CONFIGS / path))) == pipelines(Config.fromfile(CONFIGS / path))


def test_a_dumped_config_has_it_already(tmp_path):
    config = load_config(str(CONFIGS / 'cpu' / 'own_data.py'))
    config.dump(tmp_path / 'dumped.py')
    assert (
        load_config(str(tmp_path / 'dumped.py')).train_dataloader
        == Config.fromfile(tmp_path / 'dumped.py').train_dataloader
    )


def test_a_head_of_the_command_line():
    options = {'model.decode_head.type': 'mmgfnuc.BoundaryHead'}
    config = load_config(str(CONFIGS / 'cpu' / 'own_data.py'), options)
    assert pipelines(config)[0][-2:] == [BoundaryTarget, PackNucleiInputs]


def test_data_sets_within_others():
    pipeline = [dict(type='mmgfnuc.RandomOrientation'), dict(type='mmgfnuc.PackNucleiInputs'), dict(type='Other')]
    datasets = [dict(type='NucleiDataset', pipeline=list(pipeline)) for _ in range(2)]
    config = Config(
        dict(
            model=dict(decode_head=dict(type='mmgfnuc.HoverHead')),
            train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=datasets)),
        )
    )
    add_target(config)
    target = dict(type='mmgfnuc.HoverTarget', key='gt_hover_map')
    for dataset in config.train_dataloader.dataset.datasets:
        assert dataset.pipeline == [pipeline[0], target, *pipeline[1:]]


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'model': 3},
        {'model': {'decode_head': {}}},
        {'model': {'decode_head': {'type': 'mmgfnuc.NoSuchHead'}}},
        {'model': {'decode_head': {'type': 'mmgfnuc.HoverHead'}}, 'train_dataloader': {'dataset': {'pipeline': [3]}}},
        {'model': {'decode_head': {'type': 'mmgfnuc.HoverHead'}}, 'train_dataloader': None},
    ],
)
def test_what_cannot_be_used_is_left_to_the_check_of_the_settings(settings):
    config = Config(settings)
    add_target(config)
    assert config.to_dict() == settings
