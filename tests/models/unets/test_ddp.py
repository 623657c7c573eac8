"""Two processes on the CPU train as one with the doubled batch, and need no `find_unused_parameters`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import ddp_losses
from .small import SMALL

ROOT = Path(__file__).parents[3]
LOSS = {'loss_decode': {'type': 'mmgfnuc.DiceFocalLoss', 'dice_per_image': True}}
CASES = [
    (unet, fusion, SMALL[unet] | {'neck': neck, 'decode_head': SMALL[unet].get('decode_head', {}) | LOSS})
    for unet, fusion, neck in (('eunet3+', 'paper', {}), ('unet', 'context', {'levels': 'all'}))
]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', ddp_losses.__file__]
    done = subprocess.run(
        [sys.executable, *launcher, tmp_path / 'two.json', json.dumps(CASES)],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for case, two in zip(CASES, json.loads((tmp_path / 'two.json').read_text()), strict=True):
        one = ddp_losses.losses(*case)
        assert max(one) - min(one) > 3e-4, 'nothing was trained'
        assert two == pytest.approx(one, abs=1e-5)
