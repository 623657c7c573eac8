"""The contracts that all parts of this package keep, as test classes of pytest to inherit.

`class TestFilmBlock(FusionBlockBattery): part = dict(type=FilmBlock)` runs each rule as a test, whose name and message
say which one is broken.
"""

import pytest

pytest.register_assert_rewrite(
    *(f'{__name__}.{module}' for module in ('backbones', 'checks', 'foundation', 'fusion', 'heads', 'losses'))
)

from .backbones import BackboneBattery  # noqa: E402 - after its assertions are to be explained
from .battery import Battery  # noqa: E402
from .checks import assert_gradients, assert_round_trip, fill_with_noise, total_loss  # noqa: E402
from .foundation import FoundationEncoderBattery  # noqa: E402
from .fusion import FusionBlockBattery  # noqa: E402
from .heads import DecodeHeadBattery, InstanceHeadBattery  # noqa: E402
from .losses import AuxiliaryLossBattery, LossBattery  # noqa: E402
from .samples import data_samples, pyramid  # noqa: E402

__all__ = [
    'AuxiliaryLossBattery',
    'BackboneBattery',
    'Battery',
    'DecodeHeadBattery',
    'FoundationEncoderBattery',
    'FusionBlockBattery',
    'InstanceHeadBattery',
    'LossBattery',
    'assert_gradients',
    'assert_round_trip',
    'data_samples',
    'fill_with_noise',
    'pyramid',
    'total_loss',
]
