"""benchmarks/feature_cache.py: one JSON line. What it measures is not asserted."""

import encoder_page
import feature_cache
import pytest
import torch

from mmgfnuc.models.foundation.cache import FeatureCache

SMALL = ('--foundation', 'vit-tiny', '--width', '2', '--images', '2', '--batch', '1', '--pairs', '1', '--threads', '1')


@pytest.mark.slow
def test_prints_one_line_and_writes_a_record(measured):
    row = measured(feature_cache, encoder_page._cache_speed, *SMALL, '--dtype', 'float16')
    assert min(row['epoch_speedup'], row['step_vs_unet']) > 0
    # 4 layers of 192 channels and 16x16 tokens, 2 bytes each.
    assert row['mb_per_image'] == pytest.approx(4 * 192 * 256 * 2 / 1e6, abs=0.01)


@pytest.mark.slow
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
