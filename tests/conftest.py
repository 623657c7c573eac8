import pytest
import torch

from mmgfnuc.models.foundation.weights import WEIGHTS_ENV


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def weights_folder(tmp_path, monkeypatch):
    """An empty folder that `$MMGFNUC_WEIGHTS` names."""
    folder = tmp_path / 'weights'
    folder.mkdir()
    monkeypatch.setenv(WEIGHTS_ENV, str(folder))
    return folder
