import math
import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import (
    carried_config,
    check_fit,
    check_state,
    load_checkpoint,
    read_checkpoint,
    weights_from_checkpoint,
)

META = {'cfg': 'a = 1', 'seed': 3, 'iter': 7, 'dataset_meta': {'mpp': 0.5}, 'preprocessing': {'mpp': None}}
META['versions'] = {'torch': '2'}


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
    assert str(caught.value).endswith(
        f"a.pth' is not a whole checkpoint of mmgfnuc train: it lacks {', '.join(missing)}"
    )


def test_something_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r"a\.pth' is not a checkpoint of mmgfnuc train: it holds a list"):
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


class Reduce:
    """Calls a function where it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refusal(content, path):
    torch.save(content, path)
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    assert '\n' not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


HELD = [
    lambda proof: Reduce(os.system, f'touch {proof}'),
    lambda proof: Reduce(eval, f"__import__('pathlib').Path({str(proof)!r}).touch()"),
    lambda proof: Reduce(getattr, Reduce(getattr, HistoryBuffer, 'mean'), '__globals__'),
    lambda proof: np.array([Reduce(os.system, f'touch {proof}')], dtype=object),
    lambda proof: nn.Linear(1, 1),
]


@pytest.mark.parametrize('held', HELD, ids=['system', 'eval', 'getattr', 'object array', 'module'])
@pytest.mark.parametrize('place', ['state_dict', 'meta', 'message_hub', 'optimizer'])
def test_what_is_more_than_data_is_refused_and_not_run(tmp_path, held, place):
    whole = {'state_dict': {}, 'meta': META, 'message_hub': {}, 'optimizer': {}}
    whole[place] = {**whole[place], 'x': held(tmp_path / 'ran')}
    assert 'cannot be read' in refusal(whole, tmp_path / 'a.pth')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    weights = {'first': torch.zeros(3), 'second': torch.tensor([0.0, value]), 'steps': torch.tensor(3)}
    assert ': second holds NaN or infinity' in refusal({'state_dict': weights, 'meta': META}, tmp_path / 'a.pth')


@pytest.mark.parametrize(
    'content', [{'state_dict': [1]}, {'state_dict': {'weight': 1}}, {'state_dict': {}, 'meta': 'text'}]
)
def test_parts_of_the_wrong_types(tmp_path, content):
    assert 'it holds parts of the wrong types' in refusal(content, tmp_path / 'a.pth')


def curves():
    hub = MessageHub('curves')
    for step in range(5):
        hub.update_scalar('train/loss', 0.1 * step, 2)
    hub.update_info('iter', 5)
    hub.update_info('eta', np.float64(0.25))
    return hub.state_dict()


def test_the_curves_of_the_log_are_what_they_were(tmp_path):
    """Read, saved again and read again; MMEngine reads the copy, too."""
    saved = {'state_dict': {}, 'meta': META, 'message_hub': curves()}
    for name in ('first.pth', 'second.pth'):
        torch.save(saved, tmp_path / name)
        saved = load_checkpoint(tmp_path / name)
        loss, info = saved['message_hub']['log_scalars']['train/loss'], saved['message_hub']['runtime_info']
        assert type(loss) is HistoryBuffer
        assert [values.tolist() for values in loss.data] == [[0.1 * step for step in range(5)], [2.0] * 5]
        assert loss.max_length == 1_000_000
        assert loss.statistics('mean') == pytest.approx(0.1)
        assert (type(info['eta']), info['eta'], info['iter']) == (np.float64, 0.25, 5)
        hub = MessageHub(name)
        hub.load_state_dict(saved['message_hub'])
        assert hub.get_scalar('train/loss').current() == 0.4
    torch.load(tmp_path / 'second.pth', weights_only=False)


def test_a_config_that_mmengine_would_run_on_resume_is_dropped(tmp_path):
    torch.save({'state_dict': {}, 'meta': META | {'config': 'import os'}}, tmp_path / 'a.pth')
    assert load_checkpoint(tmp_path / 'a.pth')['meta'] == META


def test_the_config_of_a_checkpoint_is_read_and_not_run(tmp_path):
    assert carried_config({'meta': META}, 'a.pth').to_dict() == {'a': 1}
    code = f"a = open({str(tmp_path / 'ran')!r}, 'w')"
    with pytest.raises(UserError, match=r"the config in checkpoint 'a\.pth' is not read: line 1 holds code"):
        carried_config({'meta': META | {'cfg': code}}, 'a.pth')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('backbone', 'weights'),
    [({'type': 'mmgfnuc.TimmBackbone', 'model_name': 'resnet18'}, None), ({'type': 'mmgfnuc.UNetEncoder'}, 'x.pth')],
)
def test_a_backbone_of_timm_needs_no_file_where_its_weights_are_in_the_checkpoint(backbone, weights):
    config = Config({'model': {'backbone': {**backbone, 'weights': 'x.pth'}}})
    with weights_from_checkpoint(config):
        assert config.model.backbone.weights == weights


HUB = {'log_scalars': {}, 'runtime_info': {'keep_ckpt_ids': [2]}, 'resumed_keys': {}}
ADAM = {'state': {0: {'step': torch.tensor(1.0)}}, 'param_groups': [{'lr': 0.1, 'params': [0]}]}
RUN = META | {'epoch': 0}
WRONG = [
    ('optimizer', ADAM, 'meta.epoch is not there'),
    *(('meta', {**RUN, key: value}, f'meta.{key}=') for key in RUN for value in (None, [1], 2.5)),
    *(('meta', {**RUN, 'dataset_meta': {'classes': value}}, 'are not names') for value in (5, None, [1])),
    ('meta', {**RUN, 'iter': 'abc'}, "meta.iter='abc' is not of type int"),
    ('meta', {**RUN, 'iter': -5}, 'meta.iter=-5 is out of range'),
    ('meta', {**RUN, 'iter': True}, 'meta.iter=True'),
    ('meta', {**RUN, 'iter': 10**12}, 'out of range'),
    ('meta', {**RUN, 'seed': 2**32}, 'out of range'),
    *(('meta', {**RUN, 'train_seconds': value}, 'is not a time') for value in ('x', None, math.nan, -1.0)),
    *(('message_hub', value, 'message_hub lacks') for value in ([1], {}, None, 'x', {**HUB, 'log_scalars': 3})),
    ('message_hub', {**HUB, 'runtime_info': {'keep_ckpt_ids': 3}}, 'message_hub lacks'),
    *(('optimizer', value, 'optimizer holds no state') for value in ({}, None, [1], {**ADAM, 'param_groups': [5]})),
    *(('optimizer', {**ADAM, 'state': value}, 'optimizer holds no state') for value in ([], {0: 1})),
    ('optimizer', {**ADAM, 'state': {0: {'x': torch.tensor(math.nan)}}}, r'optimizer\.state\.0\.x holds NaN'),
    *(('param_schedulers', value, 'not a list of states') for value in ('x', [1], {'a': 'x'}, None)),
]


@pytest.mark.parametrize(('part', 'value', 'said'), WRONG)
def test_parts_of_wrong_types_are_named(tmp_path, part, value, said):
    meta = META if value is ADAM else RUN
    torch.save({'state_dict': {}, 'meta': meta, part: value}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=said) as caught:
        read_checkpoint(tmp_path / 'a.pth')
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_right_parts_of_a_checkpoint():
    for optimizer, schedules in ((ADAM, [{}]), ({'a': ADAM, 'b': ADAM}, {'a': [{}], 'b': []})):
        saved = {'meta': RUN | {'train_seconds': 3}, 'message_hub': HUB}
        check_state(saved | {'optimizer': optimizer, 'param_schedulers': schedules}, 'a.pth')
    check_state({}, 'a.pth')
