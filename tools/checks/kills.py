"""Kill each command that writes at every one of its file operations, run it again, and compare with an undisturbed run.

Prints one JSON line: kills in all, those after which everything was as without the kill, and those after which it was
not. A sample of it is in the test suite.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from injection import KILLED, End, killed_run, whole_run
from scenarios import Scenario, contents, make_inputs, scenarios

from mmgfnuc.engine.cli import run_cli


def check(scenario: Scenario, place: Path, every: int = 1) -> tuple[int, list[str]]:
    """Kill a command at its operations; return how many kills there were, and what was wrong after which."""
    place.mkdir()
    # Always the same folder: some files hold its path.
    folder, output = place / 'out', place / 'out.txt'
    end = _begin_and_run(scenario, folder, output)
    expected = contents(folder)
    shutil.rmtree(folder)
    if end.code != 0:
        return 0, [f'{scenario.name} fails undisturbed: {end.output[-500:]}']
    kills, faults = 0, []
    for at, opens in list(enumerate(end.operations, 1))[::every]:
        for opened in (False, True)[: 1 + opens]:
            kills += 1
            if fault := _kill(scenario, folder, output, at, opened, expected):
                faults.append(f'{scenario.name}, operation {at} of {len(end.operations)}: {fault}')
            shutil.rmtree(folder)
    return kills, faults


def _begin_and_run(scenario: Scenario, folder: Path, output: Path) -> End:
    folder.mkdir()
    # In a process of its own, as all: this one has to stay as it was after its imports.
    whole_run(lambda: scenario.begin(folder), folder, output)
    return whole_run(lambda: scenario.run(folder), folder, output)


def _kill(
    scenario: Scenario, folder: Path, output: Path, at: int, opened: bool, expected: dict[str, str]
) -> str | None:
    folder.mkdir()
    whole_run(lambda: scenario.begin(folder), folder, output)
    killed = killed_run(lambda: scenario.run(folder), folder, output, at, opened)
    if killed.code not in (KILLED, 0):
        return f'it ended with {killed.code}: {killed.output[-300:]}'
    try:
        scenario.check(folder)
    except Exception as error:
        return f'after the kill: {error}'
    again = whole_run(lambda: (scenario.again or scenario.run)(folder), folder, output)
    if again.code != 0:
        return f'the next run ends with {again.code}: {again.output[-300:]}'
    found = contents(folder)
    different = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    return f'differs in {", ".join(different[:5])}' if different else None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', metavar='NAME', help='names of commands, such as train (all)')
    return parser.parse_args()


def main() -> int:
    only = parse_args().only
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / 'inputs').mkdir()
        made = whole_run(lambda: make_inputs(place / 'inputs'), place / 'inputs', place / 'inputs.txt')
        assert made.code == 0, made.output
        kills, faults = {}, []
        for number, scenario in enumerate(scenarios(place / 'inputs')):
            if only is None or scenario.name in only:
                kills[scenario.name], wrong = check(scenario, place / str(number))
                faults += wrong
                print(f'{scenario.name}: {kills[scenario.name]} kills, {len(wrong)} faults', file=sys.stderr)
    total = sum(kills.values())
    print(json.dumps({'kills': total, 'held': total - len(faults), 'by_command': kills, 'faults': faults}))
    return int(bool(faults))


if __name__ == '__main__':
    sys.exit(run_cli(main))
