"""A plain module of a package outside as foundation encoder: trained, tested and applied by the commands."""

import pytest
import torch
from mmengine.config import Config

SOURCE = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.query, self.value = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.value(torch.tanh(self.query(self.norm(x))))


class MyEncoder(nn.Module):
    out_strides = (4, 16)
    mean, std = (0.7, 0.5, 0.6), (0.2, 0.2, 0.2)

    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.deep = nn.Conv2d(width, 2 * width, 4, 4)
        self.out_channels = (width, 2 * width)

    def forward(self, images):
        fine = self.blocks(self.stem(images).movedim(1, -1)).movedim(-1, 1)
        return fine, self.deep(fine)
"""


@pytest.fixture(scope='module')
def own_config(config, tmp_path_factory):
    """The small config with the encoder of a package that is not installed."""
    folder = tmp_path_factory.mktemp('own')
    (folder / 'own_encoder').mkdir()
    (folder / 'own_encoder' / '__init__.py').write_text(SOURCE)
    cfg = Config.fromfile(config)
    cfg.custom_imports = dict(imports=['own_encoder'], allow_failed_imports=False)
    cfg.model.foundation = dict(type='own_encoder.MyEncoder', width=8)
    cfg.train_cfg.max_iters = 4
    cfg.dump(folder / 'own.py')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / 'own.py'


@pytest.mark.slow
def test_a_module_that_constructs_its_weights(tool, own_config, data_root, tmp_path, capsys):
    """Frozen: its weights are in the checkpoint, the same from begin to end, and the commands read them from there."""
    run, resumed = tmp_path / 'run', tmp_path / 'resumed'
    assert tool('train', own_config, '--work-dir', run) == 0
    assert 'MyEncoder, weights of its constructor, frozen' in capsys.readouterr().out
    first, last = (torch.load(run / f'iter_{step}.pth', weights_only=False)['state_dict'] for step in (2, 4))
    of_encoder = [key for key in last if key.startswith('foundation.network.')]
    assert len(of_encoder) == 16
    assert all(torch.equal(first[key], last[key]) for key in of_encoder)
    assert tool('train', own_config, '--work-dir', resumed, '--resume', run / 'iter_2.pth') == 0
    again = torch.load(resumed / 'iter_4.pth', weights_only=False)['state_dict']
    assert all(torch.equal(again[key], last[key]) for key in last)
    assert tool('test', own_config, run / 'iter_4.pth', '--work-dir', tmp_path / 'test') == 0
    image = next((data_root / 'images').glob('val*.png'))
    given = ['--config', own_config, '--model', run / 'iter_4.pth', '--out', tmp_path / 'out']
    assert tool('predict', image, *given) == 0


@pytest.mark.slow
@pytest.mark.parametrize('tune', ['lora', 'full'])
def test_a_module_with_a_weight_file(tool, own_config, tmp_path, capsys, tune):
    """What the checkpoint holds of it, and that a test needs the file only where it does not hold the weights."""
    import own_encoder

    weights, run = tmp_path / 'mine.pth', tmp_path / 'run'
    network = own_encoder.MyEncoder()
    torch.save({'model': {f'module.{key}': value for key, value in network.state_dict().items()}}, weights)
    options = ['--cfg-options', f'model.foundation.weights={weights}', f'model.foundation.tune={tune}']
    if tune == 'lora':
        options += ['model.foundation.lora.targets=.*query']
    if tune == 'full':
        options += ['optim_wrapper.paramwise_cfg.layer_decay=0.5']
    assert tool('train', own_config, '--work-dir', run, *options) == 0
    state = torch.load(run / 'iter_4.pth', weights_only=False)['state_dict']
    keys = {key for key in state if key.startswith('foundation.')}
    expected = {f'foundation.network.{key}' for key in network.state_dict()} if tune == 'full' else set()
    assert {key for key in keys if '.lora_' not in key} == expected | {'foundation.weights_sha256'}
    assert len([key for key in keys if '.lora_' in key]) == (4 if tune == 'lora' else 0)
    if tune == 'full':
        weights.unlink()
    assert tool('test', own_config, run / 'iter_4.pth', '--work-dir', tmp_path / 'test', *options) == 0


def test_a_wrong_setting_is_named_before_anything_starts(tool, own_config, tmp_path, capsys):
    for option, words in {
        'widht=8': "MyEncoder has no 'widht'; near it: width",
        'tunes=full': "MyEncoder has no 'tunes'; near it: tune",
        'lora.rnk=8': "has no 'rnk'; near it: rank",
        'width=-1': 'model.foundation cannot be built of width=-1: ',
        'weights=nosuch.pth': "weights 'nosuch.pth' (model.foundation.weights) are not there",
        'tune=lora': 'it has blocks.0.query, blocks.0.value, blocks.1.query, blocks.1.value',
    }.items():
        work_dir = tmp_path / 'run'
        assert tool('train', own_config, '--work-dir', work_dir, '--cfg-options', f'model.foundation.{option}') == 2
        assert words in capsys.readouterr().err
        assert not work_dir.exists()
