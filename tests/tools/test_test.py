"""tools/test.py: scores, masks and pictures of a checkpoint, and its errors; `--help` of every tool."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmgfnuc.datasets import canonical

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
VAL = [f'val_{index:04d}' for index in range(5)]


def error_of(tool, capsys, *arguments):
    assert tool('test.py', *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith('error: ')
    return lines[-1]


@pytest.mark.slow
def test_masks_and_scores_agree(scored, data_root):
    rows = list(csv.DictReader((scored / 'run' / 'test' / 'per_image.csv').open()))
    assert [row['id'] for row in rows] == VAL
    dices, counts = [], np.zeros(3)
    for row in rows:
        mask = np.array(Image.open(scored / 'masks' / f'{row["id"]}.png'))
        assert mask.shape == (96, 96)
        assert set(np.unique(mask)) == {0, 255}
        truth = canonical.read_label_map(data_root / 'labels' / f'{row["id"]}.png') > 0
        both, predicted, true = (mask > 0)[truth].sum(), (mask > 0).sum(), truth.sum()
        assert (int(row['tp']), int(row['fp']), int(row['fn'])) == (both, predicted - both, true - both)
        dices.append(2 * both / (predicted + true))
        counts += both, predicted, true
        assert float(row['dice']) == pytest.approx(dices[-1], abs=1e-12)
    metrics = json.loads((scored / 'run' / 'test' / 'metrics.json').read_text())
    assert 0.05 < metrics['dice'] < 0.95
    assert metrics['dice'] == pytest.approx(np.mean(dices), abs=1e-12)
    assert metrics['dice_pooled'] == pytest.approx(2 * counts[0] / (counts[1] + counts[2]), abs=1e-12)
    assert metrics['num_images'] == 5


@pytest.mark.slow
def test_scores_say_what_they_are_of(scored, checkpoint, data_root):
    assert json.loads((scored / 'run' / 'test' / 'tested.json').read_text()) == {
        'checkpoint': 'shifted.pth',
        'sha256': hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        'data_root': str(data_root),
        'split': 'default',
        'part': 'val',
    }


@pytest.mark.slow
def test_pictures_show_both_contours_on_the_image(scored, data_root):
    assert sorted(path.stem for path in (scored / 'pictures').iterdir()) == VAL
    for name in VAL:
        picture = np.array(Image.open(scored / 'pictures' / f'{name}.png'))
        image = canonical.read_image(data_root / 'images' / f'{name}.png')
        changed = (picture != image).any(2)
        assert {tuple(colour) for colour in picture[changed]} == {(0, 230, 80), (255, 225, 0)}


@pytest.mark.slow
def test_scores_alone_write_no_pictures(tool, config, checkpoint, scored, tmp_path):
    assert tool('test.py', config, checkpoint, '--work-dir', tmp_path) == 0
    assert not list(tmp_path.rglob('*.png'))
    for name in ('metrics.json', 'per_image.csv'):
        assert (tmp_path / 'test' / name).read_bytes() == (scored / 'run' / 'test' / name).read_bytes()


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(tool, config, checkpoint, tmp_path, capsys):
    wider = ['--cfg-options', 'model.backbone.widths=(6,8,16)']
    message = error_of(tool, capsys, config, checkpoint, '--work-dir', tmp_path, *wider)
    assert 'the checkpoint does not fit the model' in message
    assert 'has backbone.stages.0.0.0.weight as (8, 3, 3, 3), the model as (12, 3, 3, 3)' in message
    deeper = ['--cfg-options', 'model.backbone.widths=(4,8,16,32)']
    assert 'lacks backbone.stages.3.' in error_of(tool, capsys, config, checkpoint, '--work-dir', tmp_path, *deeper)


def test_a_missing_damaged_or_foreign_checkpoint(tool, config, tmp_path, capsys):
    missing, damaged, foreign = (tmp_path / f'{name}.pth' for name in ('missing', 'damaged', 'foreign'))
    damaged.write_bytes(b'PK\x03\x04 cut off')
    torch.save({'weight': torch.zeros(2)}, foreign)
    for path, text in ((missing, 'is not there'), (damaged, 'cannot be read'), (foreign, 'is no whole checkpoint of')):
        message = error_of(tool, capsys, config, path, '--work-dir', tmp_path / 'run')
        assert f"'{path}' {text}" in message
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@pytest.mark.parametrize('setting', ['model.decode_head.bogus=1', 'test_cfg.bogus=1', 'test_evaluator.bogus=1'])
def test_a_misspelt_setting(tool, config, checkpoint, tmp_path, capsys, setting):
    message = error_of(tool, capsys, config, checkpoint, '--work-dir', tmp_path, '--cfg-options', setting)
    assert message.startswith('error: the config has a setting that does not exist: ')
    assert "'bogus'" in message


@pytest.mark.parametrize(
    'name',
    sorted(str(path.relative_to(TOOLS)) for path in TOOLS.rglob('*.py') if 'ArgumentParser' in path.read_text()),
)
def test_every_tool_explains_itself(tool, name, capsys):
    assert tool(name, '--help') == 0
    assert capsys.readouterr().out.startswith('usage: ')
