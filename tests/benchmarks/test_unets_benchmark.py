"""benchmarks/unets.py: one JSON line, honest comparisons. What it measures is not asserted."""

import ctypes
import json
import os
import re
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import unets
from torch import nn

import mmgfnuc
from mmgfnuc.analysis import read_records
from mmgfnuc.analysis.measurements import UNETS
from mmgfnuc.analysis.model_zoo import RATIOS, zoo_page
from mmgfnuc.analysis.tables import LINKS
from mmgfnuc.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TINY = {'backbone': {'widths': (4, 8, 16, 32, 64)}}
ROW = {
    'unet',
    'train_ms',
    'infer_ms',
    'train_images_per_s',
    'infer_images_per_s',
    'peak_mb',
    'parameters',
    'macs',
    'levels',
    'source',
}


@pytest.fixture
def script():
    return unets


@pytest.fixture
def main(run_here):
    """Runs the script in this process and gives its exit code."""
    return partial(run_here, unets)


def tiny_unet(name):
    assert name == 'unet'
    return mmgfnuc.create_model('unet', parts=TINY)


def in_order_of_use(model, images):
    """The layers with weights of a network, as its forward pass comes to them."""
    used = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            layer.register_forward_hook(lambda layer, *_: used.append(layer))
    model.eval()(images)
    return used


def test_every_unet_in_its_own_process_prints_one_line_and_writes_a_record(tmp_path):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    options = ['--only', 'eunet3+', '--size', '32', '--repeats', '1', '--out', 'unets.json']
    done = subprocess.run(
        [sys.executable, ROOT / 'benchmarks' / 'unets.py', *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    (row,) = json.loads(line)
    assert set(row) == ROW
    assert row['unet'] == 'eunet3+'
    assert all(value > 0 for value in row.values() if not isinstance(value, str))
    # Weights, gradients and the two moments of Adam are held at once, 4 bytes each.
    assert row['peak_mb'] * 1e6 > 4 * 4 * row['parameters']
    assert '[1/1] eunet3+: train ' in done.stderr
    record = read_records(tmp_path)['unets']
    assert record['commands'] == ['python benchmarks/unets.py ' + ' '.join(options)]
    assert record['rows'] == [row]
    assert '| `eunet3+` |' in zoo_page([record])


def test_all_unets_are_measured_without_only(script, main, monkeypatch, capsys):
    measured = []

    def pretend(function, name, settings):
        measured.append((function.__name__, name))
        return {'unet': name, 'train_ms': 1, 'infer_ms': 1, 'peak_mb': 1}

    monkeypatch.setattr(script, 'in_fresh_process', pretend)
    assert main() == 0
    assert measured == [('measure', name) for name in mmgfnuc.list_unets()]
    assert [row['unet'] for row in json.loads(capsys.readouterr().out)] == mmgfnuc.list_unets()


@pytest.mark.parametrize('settings', [(), ('--dtype', 'bf16', '--plain-layout')])
def test_unet_alone_is_also_compared(script, main, monkeypatch, capsys, settings):
    monkeypatch.setattr(script, 'create_model', tiny_unet)
    monkeypatch.setitem(script.RIVALS, 'ratio_vs_mmseg', (lambda: script.build_mmseg(4), script.segmentor_loss))
    monkeypatch.setattr(script, 'in_fresh_process', lambda function, name, settings: function(name, settings))
    options = ('--size', '64', '--repeats', '1', '--pairs', '1', '--threads', '1')
    assert main('--only', 'unet', *options, *settings) == 0
    (line,) = capsys.readouterr().out.splitlines()
    (row,) = json.loads(line)
    ratios = {*RATIOS, *(f'{key}_infer' for key in RATIOS)}
    assert set(row) == ROW | ratios
    assert all(row[key] > 0 for key in ratios)


def test_the_network_compared_with_is_the_same(script):
    """With our weights MMSegmentation's network gives our logits."""
    ours, theirs = tiny_unet('unet'), script.build_mmseg(4)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        pairs = zip(in_order_of_use(ours, images), in_order_of_use(theirs, images), strict=True)
        for own, other in pairs:
            for tensor in own.state_dict().values():
                if tensor.is_floating_point():
                    tensor.uniform_(0.05, 0.15)
            other.load_state_dict(own.state_dict())
        # Ours normalises images itself, by mean and deviation 0.5.
        torch.testing.assert_close(theirs((images - 0.5) / 0.5), ours(images))


def test_networks_compared_have_the_same_work_where_only_images_count(script):
    ours, theirs = (script.on_meta(build) for build in (script.build_unet, script.build_mmseg))
    assert script.count_macs(ours, 64) == script.count_macs(theirs, 64)


def test_macs_by_hand(script):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=8, stride=2)
            self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)

        def forward(self, images):
            tokens = self.up(self.grouped(self.conv(images))).flatten(2).mT[:, None]
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    pixels = 16 * 16
    convolutions = pixels * 8 * 3 * 9 + pixels // 4 * 8 * 9 + pixels // 4 * 8 * 4 * 4
    attention = 2 * pixels * pixels * 4
    assert script.count_macs(script.on_meta(Network), 16) == convolutions + attention


def test_a_ratio_is_the_median_over_pairs_that_take_turns(script):
    order = []

    def run(name, *seconds):
        times = iter(seconds)

        def step():
            order.append(name)
            return next(times)

        return step

    # The first of each is a warm-up. Pairs: 2/1, 6/2, 4/4.
    assert script.paired_ratio(run('a', 100, 1, 2, 4), run('b', 1, 2, 6, 4), pairs=3) == 2
    assert ''.join(order) == 'ab' + 'ab' + 'ba' + 'ab'


def test_peak_memory_is_what_was_held_at_most(script):
    settings = script.Settings(32, 1, 1, 1, 1, 'cpu', 'fp32', False)
    before = script.memory(settings)
    block = torch.ones(50_000_000)
    assert script.memory(settings) - before > 150e6
    del block
    assert script.memory(settings) - before < 150e6
    assert script.memory(settings, peak=True) - before > 190e6
    assert script.memory(settings, peak=True) <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_killed_process_is_named(script):
    with pytest.raises(UserError, match='its process was killed, probably for memory; give a smaller --size'):
        script.in_fresh_process(ctypes.string_at, 1, 1)  # reads an address that no process may read


@pytest.mark.parametrize('unet', mmgfnuc.list_unets())
def test_the_first_comment_of_a_preset_names_its_paper(script, unet):
    source = script.read_source(unet)
    assert any(re.search(pattern, source) for pattern in LINKS), f'{source}: give arXiv:NUMBER or doi:NUMBER'
    assert '|' not in source


def test_the_records_describe_every_unet_as_it_is(script):
    records = [record for record in read_records(ROOT / 'docs/results').values() if record.get('kind') == UNETS]
    rows = [row for record in records for row in record['rows']]
    assert {row['unet'] for row in rows} == set(mmgfnuc.list_unets())
    for unet in mmgfnuc.list_unets():
        described = script.describe(unet)
        for row in rows:
            if row['unet'] == unet:
                assert {key: row[key] for key in described} == described


def refusal(main, capsys, *arguments):
    assert main(*arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out
    return printed.err


@pytest.mark.parametrize(('size', 'fix'), [(100, '96 or 128'), (32, '64 or 96')])
def test_a_size_that_a_rival_cannot_take(main, capsys, size, fix):
    message = refusal(main, capsys, '--only', 'unet', '--size', str(size))
    assert message.startswith(f'error: --size {size}: ')
    assert message.endswith(f'multiples of 32 from 64 on; give {fix}\n')


def test_a_rival_that_is_not_installed(script, main, monkeypatch, capsys):
    monkeypatch.setattr(script, 'find_spec', lambda name: None)
    assert 'segmentation-models-pytorch, which is not installed; ' in refusal(main, capsys, '--only', 'unet')


def test_a_gpu_that_is_not_there(main, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert '--device cuda: PyTorch sees no GPU here' in refusal(main, capsys, '--device', 'cuda')


@pytest.mark.parametrize(('option', 'value'), [('--only', 'unet4'), ('--repeats', '0'), ('--dtype', 'fp16')])
def test_bad_options(main, capsys, option, value):
    with pytest.raises(SystemExit, match='2'):
        main(option, value)
    assert option in capsys.readouterr().err
