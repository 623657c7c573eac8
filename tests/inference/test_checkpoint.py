import pytest
import torch
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import check_fit, read_checkpoint

META = {'cfg': 'a = 1', 'seed': 3, 'iter': 7, 'dataset_meta': {'mpp': 0.5}, 'versions': {'torch': '2'}}


def message(own, saved):
    with pytest.raises(UserError) as caught:
        check_fit(own, saved)
    text = str(caught.value)
    assert '\n' not in text
    assert text.startswith('the checkpoint does not fit the model: ')
    return text


def test_equal_keys_and_shapes_fit_whatever_the_values():
    check_fit(nn.Linear(2, 3).state_dict(), nn.Linear(2, 3).state_dict())


def test_each_kind_of_difference_is_named():
    own = nn.Linear(2, 3).state_dict()
    assert 'lacks bias' in message(own, nn.Linear(2, 3, bias=False).state_dict())
    assert 'has gate, which the model lacks' in message(own, {**own, 'gate': torch.zeros(1)})
    assert 'has weight as (3, 5), the model as (3, 2)' in message(own, nn.Linear(5, 3).state_dict())


def test_many_differences_are_counted():
    own = {f'layer{index}': torch.zeros(1) for index in range(20)}
    text = message(own, {})
    assert 'lacks layer0' in text
    assert 'layer19' not in text
    assert f'and {20 - text.count("lacks")} more' in text


def test_a_whole_checkpoint_is_read_without_a_word(tmp_path, capfd, caplog):
    torch.save({'state_dict': {'weight': torch.arange(3.0)}, 'meta': META}, tmp_path / 'a.pth')
    read = read_checkpoint(tmp_path / 'a.pth')
    assert read['meta'] == META
    assert torch.equal(read['state_dict']['weight'], torch.arange(3.0))
    assert capfd.readouterr() == ('', '')
    assert caplog.records == []


def without(key):
    return {name: value for name, value in META.items() if name != key}


@pytest.mark.parametrize(
    ('content', 'missing'),
    [
        ({'meta': META}, ['state_dict']),
        ({'state_dict': {}}, ['meta', *(f'meta.{key}' for key in META)]),
        ({'weight': 1}, ['state_dict', 'meta', *(f'meta.{key}' for key in META)]),
        ({'meta': without('iter')}, ['state_dict', 'meta.iter']),
        *(({'state_dict': {}, 'meta': without(key)}, [f'meta.{key}']) for key in META),
    ],
)
def test_every_missing_part_is_named(tmp_path, content, missing):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(UserError) as caught:
        read_checkpoint(tmp_path / 'a.pth')
    assert str(caught.value).endswith(f"a.pth' is no whole checkpoint of tools/train.py: it lacks {', '.join(missing)}")


def test_something_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r"a\.pth' is no checkpoint of tools/train.py: it holds a list"):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize('damage', [lambda whole: b'', lambda whole: b'text', lambda whole: whole[: len(whole) // 2]])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': {'weight': torch.zeros(1000)}, 'meta': {'cfg': ''}}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match='cannot be read'):
        read_checkpoint(path)
    with pytest.raises(UserError, match='is not there'):
        read_checkpoint(tmp_path / 'b.pth')
