import zipfile

import pytest
import torch
from hostile_files import Script
from torch import nn

from mmgfnuc.models.weights.torch_files import is_script, read_script, read_torch_file, reason_of

STATE = {'weight': torch.arange(1000.0), 'steps': 3, 'names': ['a', 'b']}


def error_of(read, path):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of many types
        read(path)
    reason = reason_of(caught.value)
    assert '\n' not in reason
    return reason


@pytest.fixture
def path(tmp_path):
    torch.save(STATE, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def test_tensors_numbers_and_text(path):
    read = read_torch_file(path)
    assert torch.equal(read.pop('weight'), STATE['weight'])
    assert read == {'steps': 3, 'names': ['a', 'b']}


def test_a_bit_of_a_weight_that_flipped(path):
    """torch.load itself gives another weight, without a word."""
    content = bytearray(path.read_bytes())
    place = content.index(STATE['weight'].numpy().tobytes()) + 403
    content[place] ^= 64
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)['weight'].ne(STATE['weight']).sum() == 1
    assert 'checksum' in error_of(read_torch_file, path)


def test_an_archive_that_unpacks_to_far_more(path):
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive, archive.open('a/data/9', 'w') as part:
        for _ in range(70):
            part.write(bytes(2**20))
    assert path.stat().st_size < 10**6
    assert 'far more than its size' in error_of(read_torch_file, path)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.small = nn.Linear(2, 2).half()
        self.register_buffer('size', torch.tensor(224))
        self.sizes = [1, 2]

    def forward(self, images):
        return self.layers(images)


def script(model, kind):
    return torch.jit.script(model) if kind == 'script' else torch.jit.trace(model, torch.rand(1, 1, 8, 8))


@pytest.mark.filterwarnings('ignore:.*torch.jit')
@pytest.mark.parametrize('kind', ['script', 'trace'])
def test_torchscript_gives_the_tensors_that_pytorch_reads(tmp_path, kind):
    model = Model().eval()
    script(model, kind).save(str(tmp_path / 'a.pt'))
    assert is_script(tmp_path / 'a.pt')
    read, expected = read_script(tmp_path / 'a.pt'), model.state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[key], expected[key]) and read[key].dtype == expected[key].dtype for key in expected)


@pytest.mark.filterwarnings('ignore:.*torch.jit')
def test_code_of_torchscript_is_not_run(tmp_path):
    proof, path = tmp_path / 'ran', tmp_path / 'a.pt'
    torch.jit.script(Script(str(proof))).save(str(path))
    proof.unlink(missing_ok=True)
    read_script(path)
    assert not proof.exists()
    torch.jit.load(path)
    assert proof.exists(), 'PyTorch itself runs it'
