"""The whole segmentor, small."""

from mmgfnuc.registry import MODELS

from ..tiny import SEGMENTOR


def build(**changes):
    return MODELS.build(SEGMENTOR | changes)


def without_fusion(**changes):
    return build(foundation=None, neck=None, **changes)
