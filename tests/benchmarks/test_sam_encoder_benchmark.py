"""benchmarks/sam_encoder.py: one JSON line, the same weights on both sides. What it measures is not asserted."""

import json

import sam_encoder
from segment_anything import sam_model_registry
from segment_anything.build_sam import _build_sam

from mmgfnuc.analysis import read_records
from mmgfnuc.analysis.foundation_encoders import RATIOS, encoders_page
from mmgfnuc.models.foundation.sam import ARCHITECTURES

REDUCED = dict(embed_dim=32, depth=2, num_heads=2, global_attn_indexes=(1,))


def test_prints_one_line_and_writes_a_record(run_here, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sam_encoder, 'in_fresh_process', lambda function, *arguments: function(*arguments))
    monkeypatch.setitem(ARCHITECTURES, 'vit_b', REDUCED)
    monkeypatch.setitem(sam_model_registry, 'vit_b', lambda: _build_sam(32, 2, 2, (1,)))
    assert run_here(sam_encoder, '--pairs', '1', '--threads', '1', '--out', str(tmp_path / 'sam.json')) == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert set(row) >= {'arch', *RATIOS}
    assert row['max_abs_diff'] < 1e-4 < 0.1 < row['embedding_std']
    assert row['position_effect'] > 10 * row['max_abs_diff']
    assert read_records(tmp_path)['sam']['rows'] == [row]
    assert '| `vit_b` |' in encoders_page([read_records(tmp_path)['sam']])
