import re

import pytest
import torch

from mmgfnuc.analysis.foundation_encoders import RATIOS, encoders_page
from mmgfnuc.analysis.measurements import FEATURE_CACHE, SAM_ENCODER
from mmgfnuc.models.foundation import CATALOGUE
from mmgfnuc.registry import MODELS

ROW = re.compile(r"^\| `(dict\(type='mmgfnuc\.foundation_encoder', name='([^']+)'\))` \| (.+) \|$", re.MULTILINE)
MEASURED = {
    'commands': ['python it.py'],
    'hardware': 'a machine',
    'date': '2026-01-02',
    'versions': {'torch': '2'},
    'settings': dict(size=1024, batch=1, pairs=7, threads=2, device='cpu'),
}


@pytest.fixture(scope='module')
def page():
    return encoders_page([])


@pytest.fixture(scope='module')
def rows(page):
    """Name -> config line, other cells."""
    return {name: (line, rest.split(' | ')) for line, name, rest in ROW.findall(page)}


def test_every_encoder_has_one_row(page, rows):
    assert list(rows) == list(CATALOGUE)
    assert len(ROW.findall(page)) == len(CATALOGUE)
    assert 'Speed' not in page


@pytest.mark.parametrize('name', CATALOGUE)
def test_config_lines_build(name, rows):
    config = eval(rows[name][0])
    with torch.device('meta'):
        encoder = MODELS.build(config | {'weights': 'random'})
    assert encoder.entry is CATALOGUE[name]


def test_cells(rows):
    """Against the papers and the publishers' pages: SAM has 91 M parameters in all, its mask decoder 4.1 M."""
    sam, uni, mini, plip = (rows[name][1] for name in ('sam-vit-b', 'uni', 'h0-mini', 'plip'))
    assert sam[:5] == ['89.7', '16', '256', 'neck', 'longer side to 1024']
    assert sam[5:7] == ['unknown', 'Apache-2.0']
    assert 'dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth' in sam[7]
    assert uni[1:5] == ['16', '1024', '5, 11, 17, 23', 'as given; made for 224']
    assert uni[6] == 'CC-BY-NC-ND-4.0; no commercial use; gated'
    assert plip[6].startswith('unknown')
    assert mini[7].endswith('give the file as `weights=`')


def test_speed_of_sam():
    values = dict.fromkeys(RATIOS, 2.346) | {'max_abs_diff': 3.21e-7, 'arch': 'vit_l'}
    page = encoders_page([MEASURED | {'kind': SAM_ENCODER, 'rows': [values]}, {'kind': 'another'}, {}])
    assert '| `vit_l` | ratio or difference |' in page
    assert f'| {RATIOS["speedup_fp32"]} | 2.35 |' in page
    assert f'| {RATIOS["max_abs_diff"]} | 3.2e-07 |' in page
    assert 'medians of 7 pairs' in page
    assert 'python it.py' in page


def test_speed_of_the_cache():
    settings = MEASURED['settings'] | {'foundation': 'sam-vit-b', 'fusion': 'paper', 'width': 32, 'files': 'float32'}
    record = MEASURED | {'kind': FEATURE_CACHE, 'settings': settings}
    record['rows'] = [{'mb_per_image': 4.19, 'epoch_speedup': 12.5, 'step_vs_unet': 1.125}]
    page = encoders_page([record, record | {'commands': ['python another.py']}])
    assert page.count('| `sam-vit-b` | `paper` | 32 | float32 | 4.19 | 12.50 | 1.12 |') == 2
    assert 'python it.py\npython another.py\n' in page
    # Said once, as it is the same for both.
    assert page.count('batches of 1, 1024x1024 pixels') == 1
