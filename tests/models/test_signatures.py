"""Which settings a class takes, and whether a value can be meant by an annotation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from mmengine.hooks import CheckpointHook, RuntimeInfoHook
from mmengine.optim import AmpOptimWrapper, CosineAnnealingLR
from mmseg.datasets import BaseSegDataset
from torch import Tensor, nn

from mmgfnuc.models.decode_heads import HoverHead, UNet3PlusHead
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.models.signatures import accepted, describe, fits


class Base:
    def __init__(self, width=1, depth: int = 2):
        pass


class Passes(Base):
    def __init__(self, height=1, **settings):
        super().__init__(2, **settings)


class Takes(Base):
    def __init__(self, **settings):
        self.colour = settings.pop('colour', 'red')
        super().__init__(depth=3, **settings)


class Keeps(Base):
    def __init__(self, **settings):
        self.settings = settings


class Calls(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.inner = Base(**settings)


class Module(nn.Module):
    def __init__(self, width=1, **settings):
        super().__init__(**settings)


@pytest.mark.parametrize(
    ('target', 'names', 'known'),
    [
        (Passes, {'height', 'depth'}, True),
        (Takes, {'colour', 'width'}, True),
        (Keeps, set(), False),
        (Calls, {'width', 'depth'}, True),
        (Module, {'width'}, True),
        (RuntimeInfoHook, set(), True),
        (len, set(), False),
    ],
)
def test_settings_of_a_class(target, names, known):
    found = accepted(target)
    assert set(found.hints) == names
    assert found.known == known


@pytest.mark.parametrize(
    ('target', 'has', 'has_not'),
    [
        (UNet3PlusHead, {'skip_channels', 'num_classes', 'loss_decode', 'init_cfg'}, {'channels'}),
        (HoverHead, {'decoder', 'loss_auxiliary', 'postprocess'}, {'skip_channels'}),
        (foundation_encoder, {'name', 'weights', 'tune', 'arch'}, {'weight'}),
        (CheckpointHook, {'interval', 'save_best'}, {'intervall'}),
        (CosineAnnealingLR, {'eta_min', 'T_max', 'by_epoch', 'end'}, {'param_name'}),
        (AmpOptimWrapper, {'loss_scale', 'clip_grad', 'accumulative_counts'}, {'clip'}),
        (torch.optim.Adam, {'lr', 'betas'}, {'momentum'}),
        (BaseSegDataset, {'data_prefix', 'pipeline'}, {'data_perfix'}),
    ],
)
def test_settings_of_parts_in_use(target, has, has_not):
    found = accepted(target)
    assert found.known
    assert has <= found.hints.keys()
    assert not has_not & found.hints.keys()


@pytest.mark.parametrize(
    ('hint', 'right', 'wrong'),
    [
        (int, [3, 100.0, -1], [2.5, True, 'three', None, [3]]),
        (float, [3, 0.5], [True, 'fast', None]),
        (bool, [True, 0, 1], [2, 'yes', None]),
        (str, ['text'], [5, None]),
        (int | None, [3, None], ['3']),
        (str | Path | None, ['a', Path('a'), None], [5]),
        (Sequence[int], [(4, 8), [4]], [8, '8', ('a',), (4, 2.5)]),
        (tuple[float, float], [(0.9, 0.99), [0, 1]], [0.9, (0.9,), ('a', 'b')]),
        (Mapping[str, Any], [{}, {'a': 'b'}], [5, [1]]),
        (dict[str, float], [{'a': 1}], [{'a': 'b'}, 'a']),
        (float | Tensor, [0.1, torch.ones(1)], ['fast']),
        (Literal['cpu', 'gpu'], ['cpu'], ['disk', 5]),
        (nn.Module, [{'type': 'UNet'}, nn.Identity(), 'name'], [5, None]),
        (Any, [5, None, 'a'], []),
        ('not resolved', [5, None, 'a'], []),
    ],
)
def test_values_that_fit(hint, right, wrong):
    assert [value for value in right if not fits(value, hint)] == []
    assert [value for value in wrong if fits(value, hint)] == []
    assert describe(hint)
