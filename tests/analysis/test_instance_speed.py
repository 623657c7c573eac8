import pytest

from mmgfnuc.analysis.instance_speed import lost_section, speed_sections
from mmgfnuc.analysis.measurements import INSTANCE_METRICS, PERFECT_MAPS, POSTPROCESS, TITLES

MEASURED = {'commands': ['python it.py'], 'hardware': 'a CPU', 'date': '2026-01-02', 'versions': {'torch': '2'}}
CONDITIONS = 'on 1 CPU thread of a CPU; PyTorch 2, 2026-01-02.'


@pytest.fixture
def decoders():
    row = {'speedup_vs_skimage': 2.5, 'pq': 0.81249, 'pq_skimage': 0.7, 'megapixels_per_s': 9.5, 'nuclei_per_s': 10283}
    shares = {'share_mask': 0.072, 'share_mark': 0.043, 'share_divide': 0.885}
    settings = dict(size=192, pairs=7, threads=1, batch=2, device='cpu')
    rows = [{'decoder': name, **row, **shares} for name in ('semantic', 'hover')]
    return MEASURED | {'kind': POSTPROCESS, 'title': TITLES[POSTPROCESS], 'settings': settings, 'rows': rows}


@pytest.fixture
def metrics():
    row = {'nuclei': 1521, 'cost_vs_unique': 1.84, 'cost_vs_unique_large': 1.27, 'cost_growth': 1.1}
    row |= {'speedup_vs_loops': 1042, 'max_abs_diff': 1.234e-16, 'ms': 60.5, 'ms_large': 1160.25}
    settings = dict(size=1000, nuclei=1500, growth=4, pairs=11, threads=1, batch=1, device='cpu')
    return MEASURED | {'kind': INSTANCE_METRICS, 'title': TITLES[INSTANCE_METRICS], 'settings': settings, 'rows': [row]}


def test_each_decoder_has_a_row_under_the_command(decoders):
    lines = speed_sections([decoders]).splitlines()
    assert lines[:5] == [f'### {TITLES[POSTPROCESS]}', '', '```', 'python it.py', '```']
    assert [line for line in lines if line.startswith('| `')] == [
        f'| `{name}` | 2.5 | 0.812 | 0.700 | 9.5 | 10,283 | 7% | 4% | 88% |' for name in ('semantic', 'hover')
    ]
    assert len({line.count('|') for line in lines if line.startswith('|')}) == 1
    assert lines[-1].startswith('Medians of 7 pairs of runs')
    assert lines[-1].endswith(f'batches of 2, 192x192 pixels, {CONDITIONS}')


def test_metrics_show_times_and_the_largest_difference(metrics):
    lines = speed_sections([metrics]).splitlines()
    values = [line.split('|')[-2].strip() for line in lines if line.startswith('|')]
    assert lines[6].startswith('| 1,521 nuclei |')
    assert values[2:] == ['1.84', '1.27', '1.1', '1,042', '1.2e-16', '60.5', '1,160.25']
    assert any('Large maps have 4000x4000 pixels' in line for line in lines)
    assert lines[-1].endswith(f'batches of 1, 1000x1000 pixels, {CONDITIONS}')


def test_records_follow_each_other(decoders, metrics):
    assert speed_sections([decoders, metrics]) == f'{speed_sections([decoders])}\n\n{speed_sections([metrics])}'


def test_what_is_lost():
    row = {'head': 'hover', 'aji': 1.0, 'pq': 0.99461, 'num_truth': 8440, 'missed': 1050, 'merged': 40, 'split': 1}
    settings = {'images': 181, 'scale': 0.5, 'data': 'nuinsseg'}
    lines = lost_section([MEASURED | {'kind': PERFECT_MAPS, 'settings': settings, 'rows': [row]}]).splitlines()
    assert lines[0] == '8,440 nuclei of 181 images of nuinsseg, maps at 0.5 of their size, interpolated:'
    assert '| `hover` | 1.000 | 0.995 | 1,050 | 40 | 1 |' in lines
    assert lines[-2] == 'python it.py'
