import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.weights import first_not_finite
from mmgfnuc.models.weights.files import load_exactly, read_state_dict

KEY = 'model.part.weights'
STATE = {'weight': torch.arange(6.0).reshape(2, 3), 'bias': torch.tensor([1.0, -1.0])}


def assert_state(state):
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'encoder.pth'


class TestRead:
    def test_pytorch_file(self, path):
        torch.save(STATE, path)
        assert_state(read_state_dict(path))

    def test_safetensors_file(self, path):
        path = path.with_suffix('.safetensors')
        save_file(STATE, path)
        assert_state(read_state_dict(path))

    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    def test_truncated_file(self, path, suffix):
        path = path.with_suffix(suffix)
        save_file(STATE, path) if suffix == '.safetensors' else torch.save(STATE, path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(UserError, match=r'is not a readable weight file .*; download it again'):
            read_state_dict(path)

    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            (b'<!DOCTYPE html>\n<html><body>404 Not Found</body></html>', 'is a web page'),
            (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'is a pointer of Git LFS'),
            (b'', 'is not a readable weight file'),
        ],
    )
    def test_a_web_page_or_nothing_instead_of_weights(self, path, suffix, content, message):
        path = path.with_suffix(suffix)
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            read_state_dict(path)
        assert '\n' not in str(error.value)

    @pytest.mark.filterwarnings('ignore:Detected pickle protocol')
    @pytest.mark.parametrize('save', [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
    def test_a_pickle_with_code_is_refused_and_not_run(self, path, save, tmp_path):
        proof = tmp_path / 'code_ran'
        save({'weight': TouchOnLoad(proof)}, path)
        with pytest.raises(UserError, match='is not a readable weight file'):
            read_state_dict(path)
        assert not proof.exists()

    @pytest.mark.parametrize('content', [[1, 2], {'epoch': 3, 'weight': torch.zeros(1)}, {'model': {}}])
    def test_something_else_than_tensors(self, path, content):
        torch.save(content, path)
        with pytest.raises(UserError, match='is not a plain state dict of tensors'):
            read_state_dict(path)

    def test_a_dictionary_that_holds_itself(self, path):
        state = {'weight': torch.zeros(1)}
        state['model'] = state
        torch.save(state, path)
        with pytest.raises(UserError, match='is not a plain state dict of tensors'):
            read_state_dict(path)


class TouchOnLoad:
    """A pickle that writes a file where it is loaded without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


class TestLoad:
    def test_all_fits(self, path):
        module = nn.Linear(3, 2)
        load_exactly(module, STATE, path, KEY)
        assert_state(module.state_dict())

    @pytest.mark.parametrize(
        ('changes', 'words'),
        [
            ({'scale': torch.zeros(1)}, ['scale']),
            ({'bias': torch.zeros(5)}, ['bias', '(5,)', '(2,)']),
        ],
    )
    def test_misfit_names_keys_and_changes_nothing(self, path, changes, words):
        module = nn.Linear(3, 2)
        before = module.weight.clone()
        with pytest.raises(UserError) as error:
            load_exactly(module, STATE | changes, path, KEY)
        for word in [*words, str(path), KEY]:
            assert word in str(error.value)
        assert torch.equal(module.weight, before)

    @pytest.mark.parametrize('value', [torch.nan, -torch.inf])
    def test_a_tensor_that_is_not_finite_is_named(self, path, value):
        module = nn.Linear(3, 2)
        before = module.weight.clone()
        with pytest.raises(UserError, match=rf'encoder\.pth \({KEY}\): bias holds NaN or infinity'):
            load_exactly(module, STATE | {'bias': torch.tensor([1.0, value])}, path, KEY)
        assert torch.equal(module.weight, before)

    def test_numbers_whose_sum_overflows_are_finite(self):
        largest = torch.finfo(torch.float32).max
        assert first_not_finite({'large': torch.full((3,), largest), 'half': torch.full((3,), 6e4).half()}) is None
        assert first_not_finite({'opposite': torch.tensor([torch.inf, -torch.inf])}) == 'opposite'

    def test_missing_keys_are_named_and_the_rest_counted(self, path):
        with pytest.raises(UserError, match=r'0\.weight') as error:
            load_exactly(nn.Sequential(*(nn.Linear(2, 2) for _ in range(20))), {}, path, KEY)
        assert 'more' in str(error.value)
        assert len(str(error.value)) < 500
