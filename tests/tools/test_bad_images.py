"""A sample of the check of hostile and unlucky images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / 'tools' / 'checks' / 'bad_images.py'


@pytest.mark.skipif(not Path('/proc/self/statm').is_file(), reason='the limit of memory is set as on Linux')
def test_a_sample_of_the_bad_images_holds():
    done = subprocess.run([sys.executable, CHECK, '--every', '32'], capture_output=True, text=True, check=False)
    counts = json.loads(done.stdout)
    assert counts['failed'] == {}
    assert counts['held'] == counts['cases'] > 15
    assert done.returncode == 0
