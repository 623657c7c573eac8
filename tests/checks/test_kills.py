"""A sample of tools/checks: an archive is prepared in place of an earlier set, and killed, or the disk fills up."""

import disk_full
import kills
import pytest
import scenarios


@pytest.fixture
def archive(tmp_path):
    inputs = tmp_path / 'inputs'
    inputs.mkdir()
    scenarios.make_source(inputs)
    (found,) = [each for each in scenarios.scenarios(inputs) if each.name == 'prepare archive']
    return found


@pytest.mark.slow
def test_a_command_that_is_killed_ends_as_if_it_had_not_been(archive, tmp_path):
    number, faults = kills.check(archive, tmp_path / 'place', every=6)
    assert faults == []
    assert number >= 10


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_line(archive, tmp_path):
    assert disk_full.check(archive, tmp_path / 'place') == []


def test_the_check_finds_what_is_written_in_place(tmp_path):
    """A report that is not written whole is lost by a kill, and not by its next run alone: it was there before."""

    def begin(folder):
        (folder / 'report.txt').write_text('old')

    def run(folder):
        if (folder / 'report.txt').read_text() not in ('old', 'new'):
            raise ValueError
        (folder / 'report.txt').write_text('new')

    _, faults = kills.check(scenarios.Scenario('in place', begin, run), tmp_path / 'place')
    assert len(faults) == 1
