"""tools/checks/bad_annotations.py: a sample of its table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = [
    'coco, segmentation: runs that wrap around to the right sum',
    'coco, named pipe',
    'geojson, deep lists',
    'geojson, number of type 9',
    'geojson, a bomb',
    'geojson, an outline of 100,000 random points',
    'monuseg, a million tags',
    'monuseg, a billion laughs',
    'monuseg, a hole',
]


@pytest.mark.slow
def test_hostile_annotations_end_in_one_line_or_a_notice():
    script = ROOT / 'tools' / 'checks' / 'bad_annotations.py'
    environment = os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    run = subprocess.run([sys.executable, str(script), *SAMPLE], capture_output=True, text=True, env=environment)
    assert json.loads(run.stdout) == {
        'check': 'bad_annotations',
        'result': f'{len(SAMPLE)} of {len(SAMPLE)} handled',
        'wrong': {},
    }
    assert run.returncode == 0
