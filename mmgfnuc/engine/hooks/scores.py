"""Scores of validations that hooks follow: which way is better, and whether a validation gives them."""

from collections.abc import Iterable
from typing import Any, Literal

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import SCORE_NAMES
from mmgfnuc.evaluation.instance_metric import LOGGED, LOGGED_TYPED
from mmgfnuc.evaluation.per_image_metric import PerImageMetric

LESS = ('hausdorff95', 'false_negatives', 'false_positives', 'merged', 'split')
GREATER = tuple({*SCORE_NAMES, *LOGGED, *LOGGED_TYPED} - {*LESS})


def better_is(score: str) -> Literal['greater', 'less'] | None:
    """Say whether `greater` or `less` of a score of this package is better; None for others.

    >>> better_is('dice_pooled'), better_is('other/hausdorff95'), better_is('loss')
    ('greater', 'less', None)
    """
    name = score.rpartition('/')[2].removesuffix('_pooled')
    return 'greater' if name in GREATER else 'less' if name in LESS else None


def check_followed(hooks: Iterable[Any], metrics: Iterable[Any]) -> None:
    """See to it, before a training, that its validations will give the scores that hooks follow.

    Args:
        hooks: those with `followed` name scores there.
        metrics: of the validation, none where there is none; keys of those of others are not known before they are
            computed.

    Raises:
        UserError: names the score, and those that there are.
    """
    metrics = list(metrics)
    ours = [metric for metric in metrics if isinstance(metric, PerImageMetric) and metric.names]
    names = [f'{metric.prefix}/{name}'.lstrip('/') for metric in ours for name in metric.names]
    for hook in hooks:
        followed = getattr(hook, 'followed', ())
        if followed and not metrics:
            raise UserError(
                f"{type(hook).__name__} follows '{followed[0]}', and the run has no validation to give it; give the "
                'config val_dataloader, val_cfg and val_evaluator'
            )
        if len(ours) == len(metrics):
            check_given(hook, followed, names)


def check_given(hook: Any, followed: Iterable[str], names: Iterable[str]) -> None:
    """Refuse a score that is not among those that a validation gives.

    Raises:
        UserError: names both.
    """
    for name in followed:
        if name not in names:
            raise UserError(
                f"{type(hook).__name__} follows '{name}', which the validation does not give; it gives "
                f'{", ".join(names)}; name one of them'
            )
