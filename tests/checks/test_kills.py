"""A sample of tools/checks: an archive is prepared in place of an earlier set, and killed, or the disk fills up."""

import importlib
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).resolve().parents[2] / 'tools' / 'checks'


@pytest.fixture(scope='module')
def checks():
    """The modules of the checks, which are scripts in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CHECKS))
        names = ('injection', 'scenarios', 'kills', 'disk_full')
        yield {name: importlib.import_module(name) for name in names}
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def archive(checks, tmp_path):
    inputs = tmp_path / 'inputs'
    inputs.mkdir()
    checks['scenarios'].make_source(inputs)
    (found,) = [each for each in checks['scenarios'].scenarios(inputs) if each.name == 'prepare archive']
    return found


def test_a_command_that_is_killed_ends_as_if_it_had_not_been(checks, archive, tmp_path):
    kills, faults = checks['kills'].check(archive, tmp_path / 'place', every=6)
    assert faults == []
    assert kills >= 10


def test_a_disk_that_fills_up_is_one_line(checks, archive, tmp_path):
    assert checks['disk_full'].check(archive, tmp_path / 'place') == []


def test_the_check_finds_what_is_written_in_place(checks, tmp_path):
    """A report that is not written whole is lost by a kill, and not by its next run alone: it was there before."""
    scenarios, kills = checks['scenarios'], checks['kills']

    def begin(folder):
        (folder / 'report.txt').write_text('old')

    def run(folder):
        if (folder / 'report.txt').read_text() not in ('old', 'new'):
            raise ValueError
        (folder / 'report.txt').write_text('new')

    _, faults = kills.check(scenarios.Scenario('in place', begin, run), tmp_path / 'place')
    assert len(faults) == 1
