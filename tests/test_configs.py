"""Every config that is shipped: loads, stays short, survives a dump, builds; every part takes a step."""

import io
import re
import tokenize
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import mmgfnuc
from mmgfnuc.datasets import StainNormalize, canonical
from mmgfnuc.datasets.transforms import AugmentationBank
from mmgfnuc.engine.config import load_config
from mmgfnuc.engine.settings import check_settings
from mmgfnuc.models.layers.residual import ResidualUnit
from mmgfnuc.registry import DATASETS, MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
BASE = CONFIGS / '_base_'
LEAVES = sorted(path for path in CONFIGS.rglob('*.py') if BASE not in path.parents)
PAPER = CONFIGS / 'paper'
STUDY = PAPER / 'nuinsseg_sam_vit_b.py'
SMALL_SAM = {
    'type': 'mmgfnuc.foundation_encoder',
    'name': 'sam-vit-b',
    'weights': 'random',
    'arch': {'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'global_attn_indexes': (1,)},
    'input_size': None,
}


def name(path):
    return str(path.relative_to(CONFIGS).with_suffix(''))


each_leaf = pytest.mark.parametrize('path', LEAVES, ids=name)


def random_weights(config):
    if config.model.backbone.get('weights'):
        config.model.backbone.update(weights=None)
    if config.model.get('foundation'):
        config.model.foundation.update(weights='random')
    return config


@each_leaf
def test_leaf_has_at_most_20_lines_of_code(path):
    ignored = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    lines = {token.start[0] for token in tokens if token.type not in ignored}
    assert 0 < len(lines) <= 20


@each_leaf
def test_its_settings_are_known_and_survive_a_dump(path, tmp_path):
    config = load_config(str(path))
    check_settings(config, 'train', 'val', 'test')
    assert [config[f'{part}_dataloader'].dataset.part == 'train' for part in ('train', 'val', 'test')] == [
        True,
        False,
        False,
    ]
    config.dump(tmp_path / 'dumped.py')
    reloaded = load_config(str(tmp_path / 'dumped.py'))
    check_settings(reloaded, 'train', 'val', 'test')
    assert reloaded.to_dict() == Config.fromstring(config.pretty_text, '.py').to_dict() == config.to_dict()


@each_leaf
def test_class_weights_keep_the_other_settings_of_its_loss(path):
    config = load_config(str(path))
    head = config.model.decode_head.get('decoder', config.model.decode_head)
    before = dict(head.get('loss_decode', {}))
    head.update(loss_decode=dict(type='mmgfnuc.DiceFocalLoss', class_weight=[1, 5]))
    assert head.loss_decode == {**before, 'type': 'mmgfnuc.DiceFocalLoss', 'class_weight': [1, 5]}
    check_settings(config, 'train')


@each_leaf
def test_model_builds_and_maps_an_image_to_logits(path):
    """On the meta device: the real sizes, without memory or time."""
    config = random_weights(Config.fromfile(path))
    with torch.device('meta'):
        model = MODELS.build(config.model).eval()
        channels = 6 if config.model.get('partner_context') else 3
        logits = model(torch.zeros(1, channels, 256, 256), mode='tensor')
    assert model.decode_head.num_classes == (4 if 'typed' in path.stem else 2)
    assert logits.shape == (1, model.decode_head.num_classes + model.decode_head.num_auxiliary, 256, 256)
    assert any(parameter.requires_grad for parameter in model.parameters())


def first_sample(settings, root, side):
    """The first sample that a config's dataset reads from a folder of square images with pixels of 1 micrometre."""
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    tiles = ['tile', 'other']
    for tile in tiles:
        ones = np.ones((side, side), np.uint8)
        canonical.write_sample(root, tile, image, ones.astype(np.int32), types=ones)
    classes = ['background', 'epithelial', 'lymphocyte', 'connective']
    meta = {'name': 'tiles', 'classes': classes, 'licence': '', 'citation': '', 'source': ''}
    canonical.write_meta(root, meta | {'images': {tile: {'group': 'slide', 'mpp': 1.0} for tile in tiles}})
    canonical.write_split(root, settings.split, {settings.part: tiles})
    return DATASETS.build(settings | {'data_root': root})[0]


@each_leaf
def test_predicts_at_the_resolution_it_is_trained_at(path, tmp_path):
    config = Config.fromfile(path)
    side = 256 if 'synthetic' in config.train_dataloader.dataset.data_root else 512
    test_cfg = config.model.test_cfg
    scale = test_cfg.get('scale', 1)
    assert scale * side <= test_cfg.tile

    train = first_sample(config.train_dataloader.dataset, tmp_path / 'train', side)
    # The demo trains on smaller crops, to be quick.
    size = 128 if path.stem == 'demo' else test_cfg.tile
    assert train['inputs'].shape[1:] == (size, size)
    # The augmentation magnifies by a factor from 0.8 to 1.25.
    assert 0.8 <= train['data_samples'].mpp * scale <= 1.25

    test = first_sample(config.test_dataloader.dataset, tmp_path / 'test', side)
    assert test['inputs'].shape[1:] == (side, side)
    assert test['data_samples'].mpp == 1


RELEASED = {
    ('neck', 'block', 'preset'): 'released',
    ('neck', 'blur_padding'): 'zeros',
    ('backbone', 'blur_padding'): 'zeros',
}
# What each study changes against the paper's config, and nothing else.
CHANGES = {
    'nuinsseg_sam_vit_b_released': RELEASED,
    'nuinsseg_sam_vit_b_released_multilevel': RELEASED
    | {('neck', 'type'): 'mmgfnuc.models.necks.EncoderFusionNeck', ('neck', 'block', 'wiring'): 'text'},
    'nuinsseg_sam_vit_b_gated_multilevel': {
        ('neck', 'block', 'preset'): 'released',
        ('neck', 'block', 'wiring'): 'text',
        ('neck', 'levels'): 'all',
    },
}


def flatten(node, prefix=()):
    if not isinstance(node, dict):
        return {prefix: node}
    return {key: value for name, child in node.items() for key, value in flatten(child, (*prefix, name)).items()}


@pytest.mark.parametrize('study', sorted(CHANGES))
def test_a_study_changes_what_its_name_says(study):
    base = flatten(Config.fromfile(STUDY).model.to_dict())
    changed = flatten(Config.fromfile(PAPER / f'{study}.py').model.to_dict())
    assert {key: value for key, value in changed.items() if base.get(key) != value} == CHANGES[study]
    assert base.keys() <= changed.keys()


@pytest.mark.parametrize('path', [path for path in LEAVES if path.parent == PAPER], ids=name)
def test_the_arms_of_the_paper_differ_in_the_model_only(path):
    """Those of the release in its weight decay, too."""

    def rest(config):
        return {key: value for key, value in config.to_dict().items() if key in shared}

    shared = {'train_dataloader', 'val_dataloader', 'test_dataloader', 'optim_wrapper', 'train_cfg', 'randomness'}
    expected = rest(Config.fromfile(STUDY))
    if 'released' in path.stem:
        expected['optim_wrapper']['optimizer']['weight_decay'] = 1e-5
    assert rest(Config.fromfile(path)) == expected


def host(path):
    """All of a model that does not belong to its fusion."""
    model = Config.fromfile(path).model.to_dict()
    return {key: value for key, value in model.items() if key not in ('foundation', 'neck', 'partner_context')}


@pytest.mark.parametrize('path', LEAVES, ids=name)
def test_arms_with_fusion_and_without_have_one_host(path):
    """The dropout belongs to it."""
    assert host(path).get('bottleneck_dropout', 0) == (0.3 if path.parent.name in ('paper', 'ready') else 0)


def test_the_host_of_the_paper():
    assert host(STUDY) == host(PAPER / 'nuinsseg_none.py')


def test_the_papers_settings():
    config = Config.fromfile(STUDY)
    assert config.train_dataloader.batch_size == 16
    assert config.train_cfg.max_epochs == 50
    assert config.optim_wrapper.optimizer.lr == 1e-4
    assert tuple(config.model.backbone.widths) == (32, 64, 128, 256, 512)
    assert config.model.test_cfg == {'scale': 0.5, 'tile': 256}


HEIR = """
from mmengine.config import read_base

with read_base():
    from mmgfnuc.configs.cpu.nuinsseg_vit_tiny import *
"""


def code_of(page, heading):
    """The Python code under a heading of a page."""
    section = (CONFIGS.parent / page).read_text().split(f'\n## {heading}')[1].split('\n## ')[0]
    return re.findall(r'```python\n(.*?)```', section, flags=re.DOTALL)


def load_text(text, folder):
    """The config of some text in a folder outside of the clone, and its model."""
    path = folder / 'mine.py'
    path.write_text(text)
    config = load_config(str(path))
    check_settings(config, 'train', 'val', 'test')
    with torch.device('meta'):
        return config, MODELS.build(random_weights(config).model)


@pytest.mark.slow
def test_the_configs_of_the_readme_say_what_is_built(tmp_path):
    """One made of parts, and one that inherits a finished one."""
    _, made, child = code_of('README.md', 'Combine parts')
    _, model = load_text(made, tmp_path)
    assert model.backbone.out_channels == (32, 64, 128, 256)
    assert [*model.neck.blocks] == ['0', '1', '2', '3']
    assert model.decode_head.num_auxiliary == 2
    config, model = load_text(child, tmp_path)
    assert model.backbone.out_channels == (32, 64, 128, 256)
    assert (model.foundation.tune, config.model.foundation.lora.rank) == ('lora', 8)
    assert any('lora' in key for key, value in model.foundation.named_parameters() if value.requires_grad)
    assert any(isinstance(layer, ResidualUnit) for layer in model.decode_head.decoder.modules())


def test_the_config_of_the_page_on_training_says_what_is_built(tmp_path):
    (child,) = code_of('docs/training.md', 'A config of your own')
    before = Config.fromfile(CONFIGS / 'instances' / 'unet_context_hover.py').train_dataloader
    config, model = load_text(child, tmp_path)
    assert model.backbone.out_channels == (32, 64, 128, 256)
    assert any(isinstance(layer, ResidualUnit) for layer in model.decode_head.decoder.modules())
    crop = before.dataset.pipeline[1]
    assert config.train_dataloader.dataset.pipeline[1] == {**crop, 'prob': 0.8} != crop
    assert config.train_dataloader.batch_size == 8 != before.batch_size


@pytest.mark.slow
def test_ways_to_tune_the_foundation_encoder_say_what_is_built(tmp_path):
    """In a config that inherits a finished one."""
    adapters, full, cache = code_of('docs/training.md', 'Tune the foundation encoder')
    _, model = load_text(HEIR + adapters, tmp_path)
    trained = {key for key, value in model.foundation.named_parameters() if value.requires_grad}
    assert trained
    assert all('lora' in key for key in trained)
    config, model = load_text(HEIR + full, tmp_path)
    assert all(value.requires_grad for value in model.foundation.parameters())
    assert config.optim_wrapper.paramwise_cfg == {'layer_decay': 0.75}
    config, model = load_text(HEIR + cache, tmp_path)
    assert (model.foundation.tune, config.model.foundation.cache.max_gb) == ('frozen', 50)
    assert config.train_dataloader.dataset.pipeline[0] == {'type': AugmentationBank, 'variants': 8}


def test_the_paper_normalises_stains_first_in_training_and_test():
    config = Config.fromfile(STUDY)
    first, *others = (config[f'{part}_dataloader'].dataset.pipeline[0] for part in ('train', 'val', 'test'))
    assert first == {'type': StainNormalize, 'method': 'macenko'}
    assert others == [first, first]


def step(model, images):
    """Train one step; every parameter that is trained moves, and no other."""
    before = {key: value.clone() for key, value in model.named_parameters()}
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 2, (1, 32, 32)))) for _ in images]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    loss, _ = model.parse_losses(model(images, samples, mode='loss'))
    loss.backward()
    optimizer.step()
    for key, value in model.named_parameters():
        assert value.isfinite().all()
        yield key, not torch.equal(value, before[key])


# What lies before the last map of the attention learns nothing in the first step, while that map is zero.
WAITING = tuple(f'neck.blocks.2.{part}' for part in ('gate', 'project', 'norm', 'attention'))


@pytest.mark.parametrize('fusion', [fusion for fusion in mmgfnuc.list_fusions() if fusion != 'none'])
def test_one_step_of_every_fusion(fusion):
    """Of every U-Net and foundation encoder: tests/models/unets."""
    torch.manual_seed(0)
    parts = {'backbone': {'widths': (4, 8, 16)}}
    if not fusion.startswith(('concat', 'add')) and fusion != 'attention-only':
        parts['neck'] = {'block': {'reduction': 1}}
    model = mmgfnuc.create_model('unet', SMALL_SAM, fusion, parts=parts).train()
    images = torch.rand(2, 6 if fusion == 'shuffled-context-image' else 3, 32, 32)
    for key, moved in step(model, images):
        waits = 'context' in fusion and key.startswith(WAITING) and 'attention.out' not in key
        assert moved == (not waits and not key.startswith('foundation.')), key
