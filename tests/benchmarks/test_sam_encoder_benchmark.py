"""benchmarks/sam_encoder.py: one JSON line, the same weights on both sides. What it measures is not asserted."""

import encoder_page
import pytest
import sam_encoder
from segment_anything import sam_model_registry
from segment_anything.build_sam import _build_sam

from mmgfnuc.models.foundation.sam import ARCHITECTURES

REDUCED = dict(embed_dim=32, depth=2, num_heads=2, global_attn_indexes=(1,))


@pytest.mark.slow
def test_prints_one_line_and_writes_a_record(measured, monkeypatch):
    monkeypatch.setattr(sam_encoder, 'in_fresh_process', lambda function, *arguments: function(*arguments))
    monkeypatch.setitem(ARCHITECTURES, 'vit_b', REDUCED)
    monkeypatch.setitem(sam_model_registry, 'vit_b', lambda: _build_sam(32, 2, 2, (1,)))
    row = measured(sam_encoder, encoder_page._sam_speed, '--pairs', '1', '--threads', '1')
    assert row['max_abs_diff'] < 1e-4 < 0.1 < row['embedding_std']
    assert row['position_effect'] > 10 * row['max_abs_diff']
