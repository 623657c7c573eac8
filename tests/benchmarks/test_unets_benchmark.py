"""benchmarks/unets.py: one JSON line, honest comparisons. What it measures is not asserted."""

import ctypes
import json
import re
import resource
from pathlib import Path

import pytest
import torch
import unets
from records import linked, of_kind, read_records
from torch import nn
from zoo_page import RATIOS, zoo_page

import mmgfnuc
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


@pytest.mark.slow
def test_every_unet_in_its_own_process_prints_one_line_and_writes_a_record(measured):
    (row,) = measured(unets, zoo_page, '--only', 'eunet3+', '--size', '32', '--repeats', '1')
    assert set(row) == ROW
    assert row['unet'] == 'eunet3+'
    assert all(value > 0 for value in row.values() if not isinstance(value, str))
    # Weights, gradients and the two moments of Adam are held at once, 4 bytes each.
    assert row['peak_mb'] * 1e6 > 4 * 4 * row['parameters']


def test_all_unets_are_measured_without_only(run_here, monkeypatch, capsys):
    def pretend(function, name, settings):
        return {'unet': name, 'train_ms': 1, 'infer_ms': 1, 'peak_mb': 1}

    monkeypatch.setattr(unets, 'in_fresh_process', pretend)
    assert run_here(unets) == 0
    assert [row['unet'] for row in json.loads(capsys.readouterr().out)] == mmgfnuc.list_unets()


@pytest.mark.slow
@pytest.mark.parametrize('settings', [(), ('--dtype', 'bf16', '--plain-layout')])
def test_unet_alone_is_also_compared(measured, monkeypatch, settings):
    monkeypatch.setattr(unets, 'create_model', tiny_unet)
    monkeypatch.setitem(unets.RIVALS, 'ratio_vs_mmseg', (lambda: unets.build_mmseg(4), unets.segmentor_loss))
    monkeypatch.setattr(unets, 'in_fresh_process', lambda function, name, settings: function(name, settings))
    options = ('--size', '64', '--repeats', '1', '--pairs', '1', '--threads', '1')
    (row,) = measured(unets, zoo_page, '--only', 'unet', *options, *settings)
    ratios = {*RATIOS, *(f'{key}_infer' for key in RATIOS)}
    assert set(row) == ROW | ratios
    assert all(row[key] > 0 for key in ratios)


def test_the_network_compared_with_is_the_same():
    """With our weights MMSegmentation's network gives our logits."""
    ours, theirs = tiny_unet('unet'), unets.build_mmseg(4)
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


def test_networks_compared_have_the_same_work_where_only_images_count():
    ours, theirs = (unets.on_meta(build) for build in (unets.build_unet, unets.build_mmseg))
    assert unets.count_macs(ours, 64) == unets.count_macs(theirs, 64)


def test_a_ratio_is_the_median_over_pairs_that_take_turns():
    order = []

    def run(name, *seconds):
        times = iter(seconds)

        def step():
            order.append(name)
            return next(times)

        return step

    # The first of each is a warm-up. Pairs: 2/1, 6/2, 4/4.
    assert unets.paired_ratio(run('a', 100, 1, 2, 4), run('b', 1, 2, 6, 4), pairs=3) == 2
    assert ''.join(order) == 'ab' + 'ab' + 'ba' + 'ab'


def test_peak_memory_is_what_was_held_at_most():
    settings = unets.Settings(32, 1, 1, 1, 1, 'cpu', 'fp32', False)
    before = unets.memory(settings)
    block = torch.ones(50_000_000)
    assert unets.memory(settings) - before > 150e6
    del block
    assert unets.memory(settings) - before < 150e6
    assert unets.memory(settings, peak=True) - before > 190e6
    assert unets.memory(settings, peak=True) <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_killed_process_is_named():
    with pytest.raises(UserError, match='its process was killed, probably for memory; give a smaller --size'):
        unets.in_fresh_process(ctypes.string_at, 1, 1)  # reads an address that no process may read


@pytest.mark.slow
def test_the_records_describe_every_unet_as_it_is():
    rows = [row for record in of_kind(read_records(ROOT / 'docs/results'), 'unets') for row in record['rows']]
    assert {row['unet'] for row in rows} == set(mmgfnuc.list_unets())
    described = {unet: unets.describe(unet) for unet in mmgfnuc.list_unets()}
    for row in rows:
        assert row.items() >= described[row['unet']].items()
        assert linked(row['source']) != row['source'], 'a preset begins with arXiv:NUMBER or doi:NUMBER of its paper'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--only', 'unet', '--size', '100'), '--size 100: .* multiples of 32 from 64 on; give 96 or 128'),
        (('--only', 'unet', '--size', '32'), '--size 32: .* give 64 or 96'),
        (('--only', 'unet'), 'segmentation-models-pytorch, which is not installed; '),
        (('--device', 'cuda'), '--device cuda: PyTorch sees no GPU here'),
    ],
)
def test_what_would_fail_after_minutes_is_refused_now(run_here, monkeypatch, capsys, options, message):
    monkeypatch.setattr(unets, 'find_spec', lambda name: None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert run_here(unets, *options) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert re.search(message, printed.err)
