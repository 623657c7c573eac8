"""When a training that diverges ends; whole runs are in tests/tools/test_loading.py."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook, RuntimeInfoHook

from mmgfnuc.engine import FiniteLossHook
from mmgfnuc.engine.hooks import finite_loss
from mmgfnuc.errors import DivergedError, UserError

NAN = float('nan')


@pytest.fixture
def runner(tmp_path):
    return SimpleNamespace(iter=0, work_dir=str(tmp_path), message_hub=SimpleNamespace(runtime_info={}))


def run(hook, runner, losses):
    """Number of the step that ends the training, None if none does."""
    for step, loss in enumerate(losses):
        runner.iter = step
        try:
            hook.after_train_iter(
                runner, step, outputs={'loss': torch.tensor(loss), 'decode.loss_dice': torch.tensor(1.0)}
            )
        except DivergedError as error:
            return step + 1, str(error)
    return None, ''


@pytest.mark.parametrize('value', [NAN, float('inf'), -float('inf')])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_so_many_steps_in_a_row_end_it(runner, value, dtype):
    step, text = run(FiniteLossHook(patience=3), runner, torch.tensor([1.0, 1.0] + [value] * 9, dtype=dtype).tolist())
    assert step == 5
    assert '\n' not in text
    assert f'since step 3 (loss {value:g}, decode.loss_dice 1)' in text
    assert 'none was saved before' in text
    assert 'optim_wrapper.optimizer.lr' in text


def test_a_few_do_not(runner):
    """A loss scaler leaves such steps out."""
    hook = FiniteLossHook(patience=3)
    assert run(hook, runner, [NAN, NAN, 1.0, NAN, NAN, 1.0] * 4) == (None, '')
    hook.after_train(runner)


def test_an_end_with_such_a_loss_is_no_result(runner):
    hook = FiniteLossHook()
    run(hook, runner, [1.0, NAN])
    with pytest.raises(DivergedError, match='since step 2'):
        hook.after_train(runner)


def test_weights_that_are_not_finite_are_not_saved(runner):
    runner.message_hub.runtime_info['last_ckpt'] = 'run/iter_4.pth'
    weights = {'first': torch.zeros(2), 'second': torch.tensor([0.0, NAN])}
    with pytest.raises(DivergedError, match=r'at step 1 second is not finite; .* checkpoint is run/iter_4\.pth;'):
        FiniteLossHook().before_save_checkpoint(runner, {'state_dict': weights})
    FiniteLossHook().before_save_checkpoint(runner, {'state_dict': {'first': weights['first']}})


def test_processes_end_together(runner, monkeypatch):
    """One of two has such a loss: they ask each other at every third step, not at others, and both end."""
    asked, others = [], []

    def all_reduce(tensor, op):
        assert op == 'max'
        asked.append(runner.iter + 1)
        tensor.fill_(max(int(tensor), others[runner.iter]))

    monkeypatch.setattr(finite_loss, 'get_world_size', lambda: 2)
    monkeypatch.setattr(finite_loss, 'all_reduce', all_reduce)
    ends = []
    for losses, streaks in (([NAN] * 9, [0] * 9), ([1.0] * 9, range(1, 10))):
        asked.clear()
        others[:] = streaks
        ends.append(run(FiniteLossHook(patience=3), runner, losses))
        assert asked == [3]
    assert [step for step, _ in ends] == [3, 3]
    assert 'in another process' in ends[1][1]


def test_weights_and_the_end_are_looked_at_together(runner, monkeypatch):
    """Where this process is well and another is not, it ends too."""
    monkeypatch.setattr(finite_loss, 'all_reduce', lambda tensor, op: tensor.fill_(1))
    runner.model = torch.nn.Linear(1, 1)
    with pytest.raises(DivergedError, match='a weight in another process is not finite'):
        FiniteLossHook().check_weights(runner)
    with pytest.raises(DivergedError, match='in another process'):
        FiniteLossHook().after_train(runner)


@pytest.mark.parametrize('patience', [0, -1])
def test_a_patience_that_waits_for_no_step(patience):
    with pytest.raises(UserError, match=f'patience={patience} .*at least 1'):
        FiniteLossHook(patience=patience)


def test_it_comes_after_the_log_and_before_the_checkpoint():
    """The log has read the loss of the step by then: on a GPU nothing is waited for again."""
    order = {'VERY_HIGH': 10, 'NORMAL': 50, 'VERY_LOW': 90}
    assert order[RuntimeInfoHook.priority] < order[FiniteLossHook.priority] < order[CheckpointHook.priority]
