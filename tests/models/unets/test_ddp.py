"""Two processes on the CPU train as one with the doubled batch, and need no `find_unused_parameters`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .small import SMALL

SCRIPT = Path(__file__).with_name('ddp_losses.py')
ROOT = Path(__file__).parents[3]


def losses(processes, out, unet, fusion, parts):
    launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}'] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), str(out), unet, fusion, json.dumps(parts)],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ('unet', 'fusion', 'neck'),
    [('eunet3+', 'paper', {}), ('unet', 'context', {'levels': 'all'})],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_two_processes_train_as_one(tmp_path, unet, fusion, neck):
    loss = {'type': 'mmgfnuc.DiceFocalLoss', 'dice_per_image': True}
    parts = SMALL[unet] | {'neck': neck}
    parts['decode_head'] = parts.get('decode_head', {}) | {'loss_decode': loss}
    one = losses(1, tmp_path / 'one.json', unet, fusion, parts)
    two = losses(2, tmp_path / 'two.json', unet, fusion, parts)
    assert max(one) - min(one) > 3e-4, 'nothing was trained'
    assert two == pytest.approx(one, abs=1e-5)
