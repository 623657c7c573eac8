"""benchmarks/feature_cache.py: one JSON line. What it measures is not asserted."""

import json

import feature_cache
import pytest
import torch

from mmgfnuc.analysis import read_records
from mmgfnuc.analysis.foundation_encoders import encoders_page
from mmgfnuc.analysis.measurements import FEATURE_CACHE
from mmgfnuc.models.foundation.cache import FeatureCache

SMALL = ('--foundation', 'vit-tiny', '--width', '2', '--images', '2', '--batch', '1', '--pairs', '1', '--threads', '1')


def test_prints_one_line_and_writes_a_record(run_here, tmp_path, capsys):
    target = tmp_path / 'cache.json'
    assert run_here(feature_cache, *SMALL, '--dtype', 'float16', '--out', str(target)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert set(row) == {'epoch_speedup', 'step_vs_unet', 'mb_per_image'}
    assert row['epoch_speedup'] > 0
    assert row['step_vs_unet'] > 0
    # 4 layers of 192 channels and 16x16 tokens, 2 bytes each.
    assert row['mb_per_image'] == pytest.approx(4 * 192 * 256 * 2 / 1e6, abs=0.01)
    record = read_records(tmp_path)['cache']
    assert record['kind'] == FEATURE_CACHE
    assert record['rows'] == [row]
    assert '| `vit-tiny` | `paper` | 2 | float16 | 0.39 |' in encoders_page([record])


def test_images_that_are_not_found_are_an_error(run_here, capsys, monkeypatch):
    monkeypatch.setattr(FeatureCache, '_write', lambda *_: None)
    assert run_here(feature_cache, *SMALL) == 2
    assert 'were not found in the cache' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--images', '3', '--batch', '2'), '--images 3 is not a multiple of --batch 2'),
        (('--device', 'cuda'), 'sees no GPU here'),
    ],
)
def test_errors(arguments, message, run_here, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert run_here(feature_cache, *arguments) == 2
    assert message in capsys.readouterr().err
