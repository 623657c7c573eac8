"""Which arms of a study are compared with which, and what for."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmgfnuc.models.weights.locate import RANDOM

from .study import FUSED_PARTS, Arm

Pairs = list[tuple[str, str]]

# Fusions that keep the design of `context` and take away what the encoder sees in the image, or where.
BLIND = ('zero-context', 'shuffled-context-image', 'shuffled-context-spatial')
SEEING = 'context'
# These get no context at all.
WITHOUT_CONTEXT = ('attention-only',)


def is_control(arm: Arm) -> bool:
    """Say whether an arm has a fusion from which nothing of what a trained encoder sees in the image can come."""
    return bool(arm.foundation) and (arm.fusion in (*BLIND, *WITHOUT_CONTEXT) or arm.encoder_weights == RANDOM)


def fusion_pairs(arms: Sequence[Arm]) -> Pairs:
    """Pair each arm with fusion with the same arm without, as far as the study has it."""
    return [
        (arm.name, alone.name)
        for arm in arms
        if arm.foundation
        for alone in [each for each in arms if not each.foundation and _host(each) == _host(arm)][:1]
    ]


def other_pairs(arms: Sequence[Arm]) -> Pairs:
    """Pair all other arms with the first, the baseline of the study."""
    fused = fusion_pairs(arms)
    done = {arm for arm, _ in fused}
    pairs = [(arm.name, arms[0].name) for arm in arms[1:] if arm.name not in done]
    return [(arm, first) for arm, first in pairs if (first, arm) not in fused]


def control_pairs(arms: Sequence[Arm]) -> Pairs:
    """Pair each arm whose fusion sees the image with the controls that differ from it in just that.

    They are the same arm with a random encoder, and, for cross-attention, with features that are permuted, those of
    another image, or zero.
    """
    return [
        (arm.name, control.name)
        for arm in arms
        if arm.foundation and not is_control(arm)
        for control in arms
        if _without_weights(control) == _without_weights(arm)
        if (control.fusion == arm.fusion and control.encoder_weights == RANDOM)
        or (arm.fusion == SEEING and control.fusion in BLIND and control.encoder_weights == arm.encoder_weights)
    ]


def _host(arm: Arm) -> tuple[Any, ...]:
    """All of an arm that does not belong to its fusion."""
    return arm.unet, arm.head, _without(arm.parts, *FUSED_PARTS)


def _without_weights(arm: Arm) -> tuple[Any, ...]:
    """All of an arm but its fusion and weights."""
    foundation = _without(arm.parts.get('foundation', {}), 'weights')
    return arm.unet, arm.head, arm.foundation, {**arm.parts, 'foundation': foundation}


def _without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
