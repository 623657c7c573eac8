import pytest

from mmgfnuc.analysis import read_records
from mmgfnuc.analysis.measurements import UNETS, make_measurement
from mmgfnuc.analysis.model_zoo import RATIOS, zoo_page
from mmgfnuc.engine.provenance import commit, hardware, versions

SETTINGS = dict(size=96, batch=2, repeats=3, pairs=7, threads=2, device='cpu', dtype='fp32', plain_layout=False)
ROW = {
    'unet': 'unet',
    'train_ms': 1234.56,
    'infer_ms': 345.67,
    'train_images_per_s': 0.81,
    'infer_images_per_s': 2.89,
    'peak_mb': 987,
    'parameters': 31_037_698,
    'macs': 48_171_581_440,
    'levels': 5,
    'source': 'The original U-Net (Ronneberger et al. 2015, arXiv:1505.04597).',
}


@pytest.fixture
def record(tmp_path):
    """Of a run on a known machine."""

    def make(*rows, **changes):
        command, settings = 'python benchmarks/unets.py', SETTINGS | changes
        make_measurement(tmp_path / 'unets.json', UNETS, command, settings, rows or [ROW])
        return read_records(tmp_path)['unets'] | {'hardware': 'a machine', 'date': '2026-01-02'}

    return make


def test_a_record_says_what_was_measured_where(tmp_path):
    make_measurement(tmp_path / 'deep' / 'unets.json', UNETS, 'python it.py', SETTINGS, [ROW])
    record = read_records(tmp_path / 'deep')['unets']
    assert record['rows'] == [ROW]
    assert record['settings'] == SETTINGS
    assert record['commands'] == ['python it.py']
    assert (record['versions'], record['hardware'], record['commit']) == (versions(), hardware(), commit())


def test_a_row_shows_parameters_macs_times_memory_and_a_linked_source(record):
    page = zoo_page([record()])
    link = '[arXiv:1505.04597](https://arxiv.org/abs/1505.04597)'
    cells = ['`unet`', '31.0', '48.2', '5', '1235', '346', '987']
    assert f'| {" | ".join(cells)} | The original U-Net (Ronneberger et al. 2015, {link}). |\n' in page
    assert 'python benchmarks/unets.py' in page


def test_there_is_one_row_for_each_unet_under_a_heading_of_as_many_columns(record):
    lines = zoo_page([record(ROW, ROW | {'unet': 'other'})]).splitlines()
    table = [line for line in lines if line.startswith('|')]
    assert len(table) == 2 + 2
    assert len({line.count('|') for line in table}) == 1


@pytest.mark.parametrize(
    ('source', 'linked'),
    [
        (
            'A (B, doi:10.33851/JMIS.2024.11.4.219).',
            '[doi:10.33851/JMIS.2024.11.4.219](https://doi.org/10.33851/JMIS.2024.11.4.219)).',
        ),
        (
            'A, doi:10.1007/978-3-319-24574-4_28: x',
            '[doi:10.1007/978-3-319-24574-4_28](https://doi.org/10.1007/978-3-319-24574-4_28): x',
        ),
        ('A of 2015.1234', 'A of 2015.1234 |'),
    ],
)
def test_identifiers_become_links(record, source, linked):
    assert linked in zoo_page([record(ROW | {'source': source})])


@pytest.mark.parametrize(
    ('changes', 'conditions'),
    [
        ({}, 'batches of 2, 96x96 pixels, float32, on 2 CPU threads of a machine; PyTorch '),
        (
            {'threads': 1, 'plain_layout': True},
            'float32, no network in channels_last, on 1 CPU thread of a machine; PyTorch ',
        ),
        ({'device': 'cuda', 'dtype': 'bf16'}, 'bfloat16 autocast, on the GPU of a machine; PyTorch '),
    ],
)
def test_times_are_said_to_be_of_this_run(record, changes, conditions):
    page = zoo_page([record(**changes)])
    assert conditions in page
    assert 'of this run only' in page
    assert '2026-01-02' in page


def test_ratios_have_a_table_of_their_own(record):
    ratios = {key: 1 + number / 100 for number, key in enumerate(RATIOS)}
    compared = record(ROW | ratios | {f'{key}_infer': value + 1 for key, value in ratios.items()})
    page = zoo_page([compared, record()])
    assert page.index('| `unet` |') < page.index('## Speed of `unet`')
    assert page.count('| `unet` |') == 1
    assert f'| {RATIOS["ratio_vs_smp"]} | 1.01 | 2.01 |' in page
    assert 'Medians of 7 pairs of runs' in page
