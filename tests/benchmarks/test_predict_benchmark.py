"""benchmarks/predict.py: one JSON line. What it measures is not asserted, but that its parts make a whole."""

import numpy as np
import predict
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmgfnuc.datasets.canonical import CLASSES
from mmgfnuc.datasets.nuclei import PALETTE
from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.registry import MODELS

MODEL = dict(
    type='mmgfnuc.FusionSegmentor',
    backbone=dict(type='mmgfnuc.UNetEncoder', widths=(6, 12)),
    decode_head=dict(type='mmgfnuc.UNetHead'),
    test_cfg=dict(scale=0.5, tile=32, overlap=0),
)


@pytest.fixture
def inputs(tmp_path):
    """Two images of 96x64 pixels, and the checkpoint of a random model."""
    for index in range(2):
        Image.fromarray(render_tile(np.random.default_rng(index), 96)[0][:64]).save(tmp_path / f'{index}.png')
    torch.manual_seed(0)
    trained_on = {'mpp': 0.25, 'classes': list(CLASSES), 'palette': PALETTE[: len(CLASSES)], 'stains': []}
    meta = {'cfg': Config(dict(model=MODEL)).pretty_text, 'dataset_meta': {}, 'preprocessing': trained_on}
    meta |= {'seed': 0, 'iter': 1, 'versions': {}}
    torch.save({'state_dict': MODELS.build(MODEL).state_dict(), 'meta': meta}, tmp_path / 'model.pth')
    return '--images', str(tmp_path / '*.png'), '--mpp', '0.25', '--model', str(tmp_path / 'model.pth')


@pytest.mark.slow
def test_prints_one_line(measured, inputs, monkeypatch):
    monkeypatch.setattr(predict, 'in_fresh_process', lambda function, *arguments: function(*arguments))
    row = measured(predict, str, *inputs, '--pairs', '1', '--threads', '1')
    shares = [row[f'share_{stage}'] for stage in ('read', 'network', 'postprocess', 'measure')]
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(1, abs=0.005)
    # 48 x 32 pixels in tiles of 32: one over the other by half.
    assert row['network_pixels'] == pytest.approx(2 * 32 / 48, abs=0.005)
    assert min(row['megapixels_per_s'], row['way_vs_network'], row['peak_memory_mb']) > 0
