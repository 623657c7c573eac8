"""What all batteries share: the settings that they are run with, and the seed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch

from mmgfnuc.errors import UserError


class Battery:
    """Tests of a contract, inherited by a test class that says which part is tested.

    Attributes:
        part: registry config of the part, without what is wired (channels and strides of its neighbours).
        parts: several such configs instead, of one part with other settings or of several parts.
        may_stay: how the names of parameters end whose gradient is zero by their nature, such as a bias of attention
            keys, which adds the same to all scores of a query.
    """

    part: ClassVar[Mapping[str, Any] | None] = None
    parts: ClassVar[Sequence[Mapping[str, Any]]] = ()
    may_stay: ClassVar[tuple[str, ...]] = ()
    # Arguments of tests, and the attributes that hold the values they take.
    varied: ClassVar[Mapping[str, str]] = {}
    pytestmark = pytest.mark.filterwarnings(
        'ignore:.*RANDOM weights',
        'ignore:.*weights that its constructor gives',
        'ignore:For binary segmentation, we suggest using',
    )

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for every config."""
        for argument, attribute in self.varied.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, getattr(self, attribute))
        if 'config' in metafunc.fixturenames:
            configs = self.configs()
            metafunc.parametrize('config', configs, ids=names_of(configs))

    def configs(self) -> list[dict[str, Any]]:
        """Return the registry configs of the parts.

        Raises:
            UserError: there is none, or one is no config or has no type.
        """
        name = type(self).__name__
        if (self.part is None) == (not self.parts):
            raise UserError(f'{name} has both part and parts, or neither; set part = dict(type=...) in the class')
        configs = self.parts if self.part is None else [self.part]
        for config in configs:
            if not isinstance(config, Mapping) or 'type' not in config:
                raise UserError(
                    f'{name}: {config!r} is no config of a part; give dict(type=...), its settings beside it'
                )
        return [dict(config) for config in configs]

    @pytest.fixture(autouse=True)
    def _seeded(self) -> None:
        torch.manual_seed(0)


def names_of(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each config by its name or its type, where no two are alike, else by the settings that differ.

    >>> names_of([dict(type='Add'), dict(type='Concat', width=3)])
    ['Add', 'Concat']
    >>> names_of([dict(type='Block', width=3), dict(type='Block', width=3, heads=2)])
    ['defaults', 'heads=2']
    """
    for key in ('name', 'type'):
        names = [_short(config[key]) for config in configs if key in config]
        if len(set(names)) == len(configs):
            return names
    return ['-'.join(_differing(config, configs)) or 'defaults' for config in configs]


def _differing(config: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for key, value in config.items():
        if any(key not in other or other[key] != value for other in configs):
            yield _short(value) if key == 'type' else f'{key}={_short(value)}'


def _short(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)
