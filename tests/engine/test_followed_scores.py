"""Which scores a training may follow, and when it ends by them."""

import math
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub, MMLogger

from mmgfnuc.engine import EarlyStopHook, WholeCheckpointHook
from mmgfnuc.engine.hooks.scores import check_followed
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation import NucleiInstanceMetric, NucleiSemanticMetric


@pytest.fixture
def runner():
    loop = SimpleNamespace(stop_training=False)
    hub = MessageHub('followed_scores')
    logger = MMLogger('followed_scores', log_level='ERROR')
    return SimpleNamespace(train_loop=loop, message_hub=hub, logger=logger, iter=5, max_iters=100)


def stops_at(runner, hook, scores):
    """Number of the validation that ends the training."""
    for number, score in enumerate(scores, start=1):
        hook.after_val_epoch(runner, {hook.monitor: score})
        if runner.train_loop.stop_training:
            return number
    return None


@pytest.mark.parametrize(
    ('settings', 'scores', 'expected'),
    [
        (dict(monitor='dice', patience=2), [0.1, 0.3, 0.2, 0.3, 0.9], 4),
        (dict(monitor='dice', patience=2), [0.1, 0.3, 0.2, 0.31, 0.9], None),
        (dict(monitor='dice', patience=2, min_delta=0.1), [0.1, 0.3, 0.2, 0.31, 0.9], 4),
        (dict(monitor='hausdorff95', patience=1), [9.0, 8.0, 8.5], 3),
        (dict(monitor='val/pq_pooled', patience=1), [0.2, 0.2], 2),
        (dict(monitor='mine', rule='less', patience=1), [9.0, 8.0, 8.5], 3),
        (dict(monitor='dice', patience=2), [math.nan, 0.1, math.nan, math.nan], 4),
    ],
)
def test_when_a_training_ends(runner, settings, scores, expected):
    assert stops_at(runner, EarlyStopHook(**settings), scores) == expected


def test_nothing_ends_early_at_the_last_step(runner):
    runner.iter = runner.max_iters
    assert stops_at(runner, EarlyStopHook('dice', patience=1), [0.3, 0.2, 0.1]) is None


def test_a_damaged_state_is_refused(runner):
    runner.message_hub.update_info('early_stop_dice', ['high', 1])
    with pytest.raises(UserError, match='it is damaged'):
        EarlyStopHook('dice').before_train(runner)


def test_which_way_is_better_is_known_of_our_scores_alone():
    with pytest.raises(UserError, match="give rule='greater' or rule='less'"):
        EarlyStopHook('mine')
    best = WholeCheckpointHook(save_best=['pq', 'hausdorff95', 'mine/acc'], by_epoch=False)
    assert best.rules == ['greater', 'less', 'greater']
    assert WholeCheckpointHook(save_best=['pq', 'merged'], rule='less').rules == ['less', 'less']


def test_scores_that_no_validation_gives_are_refused():
    metrics = [NucleiSemanticMetric(), NucleiInstanceMetric(prefix='nuclei')]
    check_followed([EarlyStopHook('dice_std', rule='less'), WholeCheckpointHook(save_best='nuclei/pq')], metrics)
    for name in ('pq', 'nuclei/mpq'):
        with pytest.raises(UserError, match=f"EarlyStopHook follows '{name}', which the validation does not give"):
            check_followed([EarlyStopHook(name)], metrics)
    with pytest.raises(UserError, match='no validation to give it'):
        check_followed([EarlyStopHook('dice')], [])
    # Those of another metric are not known before.
    check_followed([EarlyStopHook('mine', rule='less')], [object()])
