"""Kill each command that writes at every one of its file operations, run it again, and compare with an undisturbed run.

Prints one JSON line: kills in all, those after which everything was as without the kill, and those after which it was
not. A sample of it is in the test suite.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from injection import KILLED, killed_run, whole_run
from scenarios import Scenario, chosen_scenarios, contents, fault_of_next_run, make_ready

from mmgfnuc.engine.cli import run_cli


def check(scenario: Scenario, place: Path, every: int = 1) -> tuple[int, list[str]]:
    """Kill a command at its operations; return how many kills there were, and what was wrong after which."""
    place.mkdir()
    # Always the same folder: some files hold its path.
    folder, output = place / 'out', place / 'out.txt'
    make_ready(scenario, folder, output)
    end = whole_run(lambda: scenario.run(folder), folder, output)
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


def _kill(
    scenario: Scenario, folder: Path, output: Path, at: int, opened: bool, expected: dict[str, str]
) -> str | None:
    make_ready(scenario, folder, output)
    killed = killed_run(lambda: scenario.run(folder), folder, output, at, opened)
    if killed.code not in (KILLED, 0):
        return f'it ended with {killed.code}: {killed.output[-300:]}'
    return fault_of_next_run(scenario, folder, output, expected)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', metavar='NAME', help='names of commands, such as train (all)')
    return parser.parse_args()


def main() -> int:
    kills, faults = {}, []
    for scenario, place in chosen_scenarios(parse_args().only):
        kills[scenario.name], wrong = check(scenario, place)
        faults += wrong
        print(f'{scenario.name}: {kills[scenario.name]} kills, {len(wrong)} faults', file=sys.stderr)
    total = sum(kills.values())
    print(json.dumps({'kills': total, 'held': total - len(faults), 'by_command': kills, 'faults': faults}))
    return int(bool(faults))


if __name__ == '__main__':
    sys.exit(run_cli(main))
