"""Ray that is missing, or does not answer; test_run.py has runs on a cluster."""

import sys

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.studies import run_all


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(UserError, match=r"Ray is not installed; run pip install 'mmgfnuc\[ray\]'"):
        run_all([], tmp_path, engine='ray')


@pytest.mark.parametrize(
    ('address', 'words'),
    [
        ('127.0.0.1:1', 'RAY_ADDRESS=127.0.0.1:1: no cluster answers there; start it, or unset it'),
        (None, r"Ray does not start on this machine \(timed out\); use engine='local'"),
    ],
)
def test_no_cluster(tmp_path, monkeypatch, address, words):
    def refuse(address, **_):
        raise ConnectionError if address == 'auto' else Exception('timed out')

    pytest.importorskip('ray')
    monkeypatch.setattr('ray.init', refuse)
    if address:
        monkeypatch.setenv('RAY_ADDRESS', address)
    else:
        monkeypatch.delenv('RAY_ADDRESS', raising=False)
    with pytest.raises(UserError, match=words):
        run_all([], tmp_path, engine='ray')
