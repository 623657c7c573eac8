"""`mmgfnuc test`: scores, predictions and pictures of a checkpoint, and its errors."""

import csv
import hashlib
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mmgfnuc.commands.test import summary
from mmgfnuc.datasets import canonical
from mmgfnuc.evaluation.functional import contingency_table, instance_counts, instance_scores, summarise_instances
from mmgfnuc.visualization.errors import draw_panels

VAL = [f'val_{index:04d}' for index in range(5)]


def error_of(tool, capsys, *arguments):
    assert tool('test', *arguments) == 2
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
        'reports': ['metrics.json', 'instances.json'],
    }


@pytest.mark.slow
def test_label_maps_and_scores_agree(scored, data_root):
    rows = list(csv.DictReader((scored / 'run' / 'test' / 'instances.csv').open()))
    assert [row['id'] for row in rows] == VAL
    counts = []
    for row in rows:
        labels = canonical.read_label_map(scored / 'masks' / 'labels' / f'{row["id"]}.png')
        truth = canonical.read_label_map(data_root / 'labels' / f'{row["id"]}.png')
        counts.append(instance_counts(contingency_table(labels, truth)))
        for name, value in instance_scores(counts[-1]).items():
            assert float(row[name]) == pytest.approx(value, abs=1e-12)
    assert sum(image.num_predicted for image in counts) > 5
    metrics = json.loads((scored / 'run' / 'test' / 'instances.json').read_text())
    summary = summarise_instances(counts)
    assert {name: metrics[name] for name in summary} == pytest.approx(summary, abs=1e-12)


@pytest.mark.slow
def test_pictures_show_the_errors_of_each_image(scored, data_root):
    assert sorted(path.stem for path in (scored / 'pictures').iterdir()) == VAL
    for name in VAL:
        sample = canonical.sample_paths(data_root, name)
        labels = canonical.read_label_map(scored / 'masks' / 'labels' / f'{name}.png')
        expected = draw_panels(canonical.read_image(sample.image), canonical.read_label_map(sample.label), labels)
        assert np.array_equal(Image.open(scored / 'pictures' / f'{name}.png'), expected)


@pytest.mark.slow
def test_scores_alone_are_printed_and_write_no_pictures(tool, config, checkpoint, scored, tmp_path, capsys):
    assert tool('test', config, checkpoint, '--work-dir', tmp_path) == 0
    dice = json.loads((tmp_path / 'test' / 'metrics.json').read_text())['dice']
    assert f'\nDice   {dice:.3f} ' in capsys.readouterr().out
    assert not list(tmp_path.rglob('*.png'))
    for name in ('metrics.json', 'per_image.csv', 'instances.json', 'instances.csv'):
        assert (tmp_path / 'test' / name).read_bytes() == (scored / 'run' / 'test' / name).read_bytes()


@pytest.mark.slow
def test_a_checkpoint_alone_is_tested_by_its_own_config(tool, checkpoint, scored, tmp_path, capsys):
    run = tmp_path / 'run'
    run.mkdir()
    shutil.copy(checkpoint, run)
    # What a training has left there, by whichever name.
    records = [run / 'small.py', run / 'shifted.py', run / 'last_checkpoint']
    for record in records:
        record.write_text('of the training')
    assert tool('test', run / 'shifted.pth') == 0
    for name in ('metrics.json', 'per_image.csv', 'instances.json', 'instances.csv'):
        assert (run / 'test' / name).read_bytes() == (scored / 'run' / 'test' / name).read_bytes()
    assert [record.read_text() for record in records] == ['of the training'] * 3
    assert {path.name for path in run.glob('[!.]*')} == {'shifted.pth', 'test', *(record.name for record in records)}
    assert len(list(run.glob('test/*/*.log'))) == 1
    screen = capsys.readouterr().out.splitlines()
    assert len(screen) < 20
    assert screen[-1] == f'written to {run / "test"}'


@pytest.mark.parametrize(
    ('files', 'text'), [(['a.py'], 'give also the checkpoint'), (['a.py', 'b.pth', 'c.pth'], '3 files'), ([], 'FILE')]
)
def test_files_that_cannot_be_meant(tool, files, text, capsys):
    assert tool('test', *files, '--work-dir', 'run') == 2
    assert text in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_damaged_or_foreign_checkpoint(tool, config, tmp_path, capsys):
    missing, damaged, foreign = (tmp_path / f'{name}.pth' for name in ('missing', 'damaged', 'foreign'))
    damaged.write_bytes(b'PK\x03\x04 cut off')
    torch.save({'weight': torch.zeros(2)}, foreign)
    for path, text in (
        (missing, 'is not there'),
        (damaged, 'cannot be read'),
        (foreign, 'is not a whole checkpoint of'),
    ):
        message = error_of(tool, capsys, config, path, '--work-dir', tmp_path / 'run')
        assert f"'{path}' {text}" in message
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@pytest.mark.parametrize('setting', ['model.decode_head.bogus=1', 'test_cfg.bogus=1', 'test_evaluator.0.bogus=1'])
def test_a_misspelt_setting(tool, config, checkpoint, tmp_path, capsys, setting):
    message = error_of(tool, capsys, config, checkpoint, '--work-dir', tmp_path, '--cfg-options', setting)
    assert message.startswith('error: a setting does not exist: ')
    assert "'bogus'" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ('setting', 'said'),
    [
        ('model.backbone.widths=(6,8,16)', 'has backbone.stages.0.0.0.weight as (8, 3, 3, 3), the model as (12, 3, 3'),
        ('model.backbone.widths=(4,8,16,32)', 'the checkpoint does not fit the model: it lacks backbone.stages.3.'),
        ('model.decode_head.num_classes=4', 'num_classes=4, the data set 2 classes (background, nucleus); set'),
        (
            'model.decode_head.type=mmgfnuc.UNetHed',
            "type='mmgfnuc.UNetHed'; near it: UNetHead",
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tool, config, checkpoint, tmp_path, capsys, setting, said):
    arguments = [config, checkpoint, '--work-dir', tmp_path, '--cfg-options', setting]
    assert said in error_of(tool, capsys, *arguments)


SCORES = {'dice': 0.8124, 'iou': 0.7, 'aji': 0.6, 'pq': math.nan, 'num_truth': 1234, 'num_predicted': 1250}
SCORES |= {'false_negatives': 45, 'false_positives': 61, 'merged': 12, 'split': 8}


def write_reports(folder, intervals, rows='b,0.25\na,\nc,0.5\nd,0.0\ne,0.125\n'):
    (folder / 'metrics.json').write_text(json.dumps({'dice': 0.8124, **intervals('dice', [0.79, 0.8346])}))
    (folder / 'instances.json').write_text(json.dumps({'aji': 0.6, **intervals('aji', None)}))
    (folder / 'instances.csv').write_text('id,aji\n' + rows)
    reports = ['metrics.json', 'instances.json']
    (folder / 'tested.json').write_text(json.dumps({'reports': reports}))


def test_summary_of_the_scores(tmp_path):
    write_reports(tmp_path, lambda name, ends: {'intervals': {'level': 0.95, 'groups': 3, 'scores': {name: ends}}})
    assert summary(SCORES, tmp_path).splitlines() == [
        '        mean       95 % interval (groups: 3)',
        'Dice   0.812       0.790 to 0.835',
        'AJI    0.600       none',
        'PQ      none       none',
        '1,234 true nuclei, 45 false negatives, 8 split',
        '1,250 predicted nuclei, 61 false positives, 12 merge several true ones',
        'lowest AJI: d (0.000), e (0.125), b (0.250)',
    ]


@pytest.mark.parametrize('intervals', [{}, {'intervals': None}])
def test_summary_without_intervals(tmp_path, intervals):
    write_reports(tmp_path, lambda *_: intervals, rows='a,\n')
    lines = summary(SCORES, tmp_path).splitlines()
    assert lines[:4] == ['        mean', 'Dice   0.812', 'AJI    0.600', 'PQ      none']
    assert len(lines) == 6


def test_reports_that_are_not_of_this_run_are_not_read(tmp_path):
    write_reports(tmp_path, lambda name, ends: {'intervals': {'level': 0.95, 'groups': 3, 'scores': {name: ends}}})
    (tmp_path / 'tested.json').write_text(json.dumps({'reports': []}))
    assert 'lowest' not in summary(SCORES, tmp_path)
    assert summary({'dice': 0.5}, tmp_path).splitlines() == ['        mean', 'Dice   0.500']
