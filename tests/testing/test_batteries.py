"""The batteries pass sound parts, and fail broken ones by the rule that they break."""

from collections import defaultdict
from pathlib import Path

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.testing import FusionBlockBattery
from mmgfnuc.testing.battery import names_of

PARTS = [str(Path(__file__).with_name(name)) for name in ('broken_parts.py', 'broken_heads.py')]


class Recorder:
    """Which tests failed, by class of tests and part."""

    def __init__(self):
        self.expected, self.failed = {}, defaultdict(set)

    def pytest_collection_modifyitems(self, items):
        """Of a broken part run only the tests that are to fail."""
        chosen = []
        for item in items:
            part = item.callspec.params['config']['type'].__name__
            fails = item.cls.fails.get(part, set())
            self.expected[item.cls.__name__, part] = fails
            if not fails or item.originalname in fails:
                chosen.append(item)
                item.user_properties.append((item.cls.__name__, part, item.originalname))
        items[:] = chosen

    def pytest_runtest_logreport(self, report):
        if report.failed:
            ((group, part, test),) = report.user_properties
            self.failed[group, part].add(test)


@pytest.fixture(scope='module')
def recorded():
    recorder = Recorder()
    plain = ['--noconftest', '--capture=no', '--tb=no', '-q', '-p', 'no:xdist', '-p', 'no:cacheprovider']
    pytest.main([*plain, '-W', 'ignore', *PARTS], plugins=[recorder])
    return recorder


@pytest.mark.slow
def test_sound_parts_pass(recorded):
    sound = {key for key, fails in recorded.expected.items() if not fails}
    assert len(sound) == 7
    assert {key: recorded.failed[key] for key in sound if recorded.failed[key]} == {}


@pytest.mark.slow
def test_broken_parts_fail_the_rule_that_they_break(recorded):
    assert len(recorded.expected) > 40
    missed = {key: fails - recorded.failed[key] for key, fails in recorded.expected.items()}
    assert {key: tests for key, tests in missed.items() if tests} == {}


def test_a_battery_without_a_part():
    class TestNothing(FusionBlockBattery):
        pass

    class TestBoth(FusionBlockBattery):
        part = dict(type='mmgfnuc.AddFusionBlock')
        parts = (part,)

    class TestUntyped(FusionBlockBattery):
        part = dict(reduction=1)

    class TestNamed(FusionBlockBattery):
        part = 'mmgfnuc.AddFusionBlock'

    for battery, message in (
        (TestNothing, r'TestNothing has both part and parts, or neither; set part = dict\(type=...\)'),
        (TestBoth, 'TestBoth has both part and parts'),
        (TestUntyped, r"TestUntyped: {'reduction': 1} is no config of a part; give dict\(type=...\)"),
        (TestNamed, "TestNamed: 'mmgfnuc.AddFusionBlock' is no config of a part"),
    ):
        with pytest.raises(UserError, match=message):
            battery().configs()


@pytest.mark.parametrize(
    ('configs', 'names'),
    [
        ([dict(type=FusionBlockBattery)], ['FusionBlockBattery']),
        ([dict(type='A'), dict(type='B', width=3)], ['A', 'B']),
        ([dict(type='A', name='x', arch={}), dict(type='A', name='y')], ['x', 'y']),
        ([dict(type='A', width=3), dict(type='A', width=3, heads=2)], ['defaults', 'heads=2']),
    ],
)
def test_names_of_parts(configs, names):
    assert names_of(configs) == names
