"""tools/demo.py with the demo's config made small: data, training, test and pictures in one go."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'demo.py'


@pytest.fixture
def demo():
    spec = importlib.util.spec_from_file_location('demo', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_whole_line(demo, config, checkpoint, tmp_path, monkeypatch, capsys):
    out, data = tmp_path / 'out', tmp_path / 'data'
    monkeypatch.setattr(demo, 'CONFIG', config)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--out', str(out), '--data', str(data), '--model', str(checkpoint)])
    demo.main()
    printed = capsys.readouterr().out
    with (out / 'tissue' / 'nuclei.csv').open() as file:
        assert f'{len(list(csv.DictReader(file)))} nuclei in ' in printed
    # The steps are those of the config, and all of them are shown.
    shown = [line.split()[1] for line in printed.splitlines() if 'remaining' in line]
    assert shown == [f'{step}/10' for step in range(1, 11)]
    assert json.loads((out / 'test' / 'tested.json').read_text())['checkpoint'] == 'iter_10.pth'
    scores = json.loads((out / 'test' / 'metrics.json').read_text())
    assert f'foreground Dice   {scores["dice"]:.3f}' in printed
    assert scores['num_images'] == len(list((data / 'images').glob('val_*'))) == len(list((out / 'pictures').iterdir()))
    assert printed.count('RANDOM WEIGHTS') == 2


def test_a_failed_step_shows_the_end_of_its_log(demo, tmp_path):
    failing = tmp_path / 'failing.py'
    failing.write_text('raise SystemExit("what went wrong")')
    with pytest.raises(demo.UserError, match=r'(?s)"Train" failed, the end of .*train\.log:.*what went wrong'):
        demo.run('Train', [str(failing)], tmp_path / 'logs' / 'train.log')
