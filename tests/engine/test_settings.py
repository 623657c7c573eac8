"""What is refused in a config before anything is built, and that nothing valid is."""

import pytest
from mmengine.config import Config
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import nn

from mmgfnuc.engine.config import load_config
from mmgfnuc.engine.settings import check_model, check_names, check_settings
from mmgfnuc.errors import UserError
from tests.engine.test_launch import DEMO


def refusal(check, *arguments):
    with pytest.raises(UserError) as caught:
        check(*arguments)
    text = str(caught.value)
    assert '\n' not in text
    return text


@pytest.mark.parametrize(
    ('variables', 'near'),
    [
        ({'resme': True}, 'resume'),
        ({'cudnn_benchmrk': True}, 'env_cfg.cudnn_benchmark'),
        ({'train_cgf': {'max_iters': 3}}, 'train_cfg'),
        ({'custom_hook': [{'type': 'EMAHook'}]}, 'custom_hooks'),
    ],
)
def test_a_variable_that_is_a_misspelt_setting(variables, near):
    text = refusal(check_names, Config({'train_cfg': {'max_iters': 2}} | variables))
    assert f"'{next(iter(variables))}'" in text
    assert f"near it: '{near}'" in text


HELPERS = {
    'far': {'num_steps': 5, 'backbone': {'type': 'UNet'}, 'size': 3, 'note': 'mine'},
    'used': {'evaluator': [{'type': 'M'}], 'val_evaluator': [{'type': 'M'}]},
    'a part of what it is used in': {'train_loader': {'batch_size': 2}, 'train_dataloader': {'batch_size': 2, 'a': 1}},
    'of another type': {'models': ['a', 'b'], 'model': {'type': 'a'}},
}


@pytest.mark.parametrize('name', HELPERS)
def test_other_variables_of_a_config_file_are_left_alone(name):
    check_names(Config(HELPERS[name]))


@pytest.fixture
def own_parts():
    """A model and a hook of a user, whose settings only he knows, and one with a wrong annotation."""

    class OwnModel(nn.Module):
        def __init__(self, width, *others, **anything):
            super().__init__()
            self.settings = anything

    class OwnHook(Hook):
        def __init__(self, every: int = 1):
            self.every = every

    MODELS.register_module(module=OwnModel)
    HOOKS.register_module(module=OwnHook)
    yield
    MODELS._module_dict.pop('OwnModel')
    HOOKS._module_dict.pop('OwnHook')


def config(**changes):
    cfg = load_config(str(DEMO))
    cfg.merge_from_dict(changes)
    return cfg


def test_parts_of_a_user(own_parts):
    own = config(custom_hooks=[dict(type='OwnHook', every='epoch', priority='low')])
    own.model = dict(type='OwnModel', width=3, nobody=dict(knows=1))
    check_settings(own, 'train', 'val', 'test')
    own.custom_hooks[0]['evry'] = 2
    assert 'custom_hooks.0.evry' in refusal(check_settings, own, 'train')


def test_only_the_parts_that_are_used():
    cfg = config()
    cfg.optim_wrapper.optimizer.type = 'OfAPackageThatIsNotHere'
    cfg.train_dataloader.dataset.pipeline[0].type = 'OfAnother'
    check_settings(cfg, 'test')
    check_model(cfg)
    assert "optim_wrapper.optimizer.type='OfAPackageThatIsNotHere'" in refusal(check_settings, cfg, 'train')


def test_what_predicting_uses():
    cfg = config()
    cfg.test_dataloader.dataset.pipeline[0].tpe = 1
    assert 'test_dataloader.dataset.pipeline.0.tpe' in refusal(check_model, cfg)
    cfg = config()
    cfg.model.test_cfg.update(tiles_per_batch=16, mpp=0.5)
    check_model(cfg)
    cfg.model.test_cfg.tle = 64
    assert 'near it: tile' in refusal(check_model, cfg)


MMSEGMENTATION = """
default_scope = 'mmseg'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64)),
    backbone=dict(type='ResNetV1c', depth=18, norm_cfg=norm_cfg, init_cfg=dict(type='Pretrained', checkpoint='x.pth')),
    decode_head=dict(
        type='FCNHead', in_channels=512, channels=8, num_classes=2, norm_cfg=norm_cfg,
        sampler=dict(type='OHEMPixelSampler', thresh=0.7), loss_decode=[dict(type='CrossEntropyLoss', loss_weight=1.0)],
        init_cfg=dict(type='Normal', std=0.01, override=dict(name='conv_seg'))),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomChoiceResize', scales=[64, 96], resize_type='ResizeShortestEdge', max_size=128),
    dict(type='RandomApply', transforms=[dict(type='PhotoMetricDistortion')], prob=0.5),
    dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True), num_batch_per_epoch=3,
    dataset=dict(type='RepeatDataset', times=2, dataset=dict(
        type='BaseSegDataset', data_root='data', data_prefix=dict(img_path='i', seg_map_path='s'), pipeline=pipeline)),
    collate_fn=dict(type='pseudo_collate'))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1e3, val_interval=100)
optim_wrapper = dict(
    type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0)), norm_decay_mult=0), clip_grad=dict(max_norm=1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=10),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=1, end=9, by_epoch=True, convert_to_iter_based=True)]
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=10, save_best='mIoU'),
    visualization=dict(type='SegVisualizationHook'), timer=None)
custom_hooks = [dict(type='EmptyCacheHook'), dict(type='SyncBuffersHook')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='nccl', timeout=1800))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)
tta_model = dict(type='SegTTAModel')
custom_imports = dict(imports=['json'], allow_failed_imports=False)
"""


def test_a_config_of_mmsegmentation(tmp_path):
    path = tmp_path / 'theirs.py'
    path.write_text(MMSEGMENTATION)
    check_settings(load_config(str(path)), 'train')


@pytest.mark.parametrize(('hook', 'ours'), [('EMAHook', 'AverageWeightsHook'), (EarlyStoppingHook, 'EarlyStopHook')])
def test_hooks_in_whose_place_ours_stand(hook, ours):
    cfg = config()
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type=hook)]
    assert ours in refusal(check_settings, cfg, 'train')


@pytest.mark.parametrize('name', ['model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'val_evaluator'])
def test_what_a_run_needs(name):
    cfg = config()
    cfg[name] = None
    assert name in refusal(check_settings, cfg, 'train', 'val')


def test_a_dataset_may_be_wrapped():
    cfg = config()
    inner = dict(cfg.train_dataloader.dataset, splt='default')
    cfg.train_dataloader.dataset = dict(type='mmengine.RepeatDataset', times=2, dataset=inner)
    assert DATASETS.get('RepeatDataset') is not None
    assert 'train_dataloader.dataset.dataset.splt' in refusal(check_settings, cfg, 'train')
