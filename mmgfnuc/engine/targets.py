"""The truth of the auxiliary maps, made in the training pipeline by the transform that the head names."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS

from mmgfnuc.datasets.transforms import PackNucleiInputs
from mmgfnuc.models.decode_heads import InstanceHead
from mmgfnuc.models.parts import class_of

from .settings import scope


def add_target(cfg: Config) -> None:
    """Put the transform that makes what the head learns before the packing of each training pipeline.

    A pipeline that has it already, as in a dumped config, stays as it is.
    """
    with scope(cfg):
        target = _target(cfg.get('model'))
        if target is None:
            return
        for group in with_pipeline(cfg.get('train_dataloader')):
            kinds = [class_of(transform, TRANSFORMS) for transform in group['pipeline']]
            if PackNucleiInputs in kinds and class_of(target, TRANSFORMS) not in kinds:
                last = kinds.index(PackNucleiInputs)
                group['pipeline'] = [*group['pipeline'][:last], dict(target), *group['pipeline'][last:]]


def _target(model: Any) -> dict | None:
    head = class_of(model.get('decode_head'), MODELS) if isinstance(model, Mapping) else None
    return head.target if isinstance(head, type) and issubclass(head, InstanceHead) else None


def with_pipeline(node: Any) -> Iterator[Any]:
    """Groups of settings, at any depth, that have a pipeline."""
    if isinstance(node, Mapping):
        if isinstance(node.get('pipeline'), list | tuple):
            yield node
        yield from with_pipeline([*node.values()])
    elif isinstance(node, list | tuple):
        for inner in node:
            yield from with_pipeline(inner)
