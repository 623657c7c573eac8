"""`mmgfnuc check`: what it prints, the JSON, the exit code."""

import json

import numpy as np
import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.synthetic import write_dataset


@pytest.fixture
def root(tmp_path):
    write_dataset(tmp_path / 'data', num_train=4, num_val=2, size=96, seed=0)
    return tmp_path / 'data'


def test_sound_set(tool, root, capsys):
    assert tool('check', root) == 0
    lines = capsys.readouterr().out.splitlines()
    nuclei = sum(canonical.count_nuclei(canonical.read_label_map(path)) for path in (root / 'labels').iterdir())
    assert lines[0] == f'synthetic ({root})'
    assert next(line.split()[1:3] for line in lines if line.startswith('all')) == ['6', f'{nuclei:,}']
    assert '4 train, 2 val' in next(line for line in lines if line.startswith('default'))
    assert lines[-1] == 'sound: no fault found'


def test_warnings_leave_the_exit_code_at_0(tool, root, capsys):
    labels = canonical.read_label_map(root / 'labels' / 'train_0000.png')
    canonical.write_sample(root, 'train_0000', canonical.read_image(root / 'images' / 'train_0001.png'), labels)
    assert tool('check', root) == 0
    printed = capsys.readouterr().out
    assert '1 x duplicate image\n      train_0000 = train_0001\n    fix: remove all but one' in printed
    assert printed.endswith('found: 1 warning\n')


def test_errors_give_1_and_the_json_holds_them_all(tool, root, tmp_path, capsys):
    for path in (root / 'labels').glob('train_*.png'):
        path.unlink()
    out = tmp_path / 'reports' / 'check.json'
    assert tool('check', root, '--json', out) == 1
    assert capsys.readouterr().out.endswith('found: 1 error\n')
    content = json.loads(out.read_text(encoding='utf-8'))
    (fault,) = content['faults']
    assert (fault['severity'], fault['kind'], fault['count']) == ('error', 'image without label', 4)
    assert fault['cases'] == [f'images/train_000{i}.png: image without label' for i in range(4)]
    assert (content['images'], content['measured']) == (6, 2)
    nuclei = [np.unique(canonical.read_label_map(path)).size - 1 for path in (root / 'labels').iterdir()]
    assert content['total']['nuclei'] == sum(nuclei)


def test_folder_that_is_no_dataset(tool, tmp_path, capsys):
    assert tool('check', tmp_path) == 2
    assert 'prepare it first: mmgfnuc prepare' in capsys.readouterr().err
