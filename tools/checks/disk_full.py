"""Let the disk fill up at several moments of each command that writes.

Each time the command has to end with one line that says so and names a file or folder, without a traceback, leave no
half of a file, and end like an undisturbed run when there is room again. Prints one JSON line: how many commands there
are, and how many of them held.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

from injection import full_disk_run, whole_run
from scenarios import Scenario, chosen_scenarios, contents, fault_of_next_run, make_ready

from mmgfnuc.engine.cli import run_cli

# Moments of a command at which the disk fills up, evenly spaced over the files that it opens.
MOMENTS = 5
# Words of the one line: that of a file that was being written, or of a log or a cache that is done without.
TOLD = re.compile(r'(error: |warning: |feature cache: ).*(the disk has [\d.]+ MB free|the disk is full|No space left)')


def check(scenario: Scenario, place: Path) -> list[str]:
    """Say what is wrong with a command on a disk that fills up."""
    place.mkdir()
    folder, output = place / 'out', place / 'out.txt'
    make_ready(scenario, folder, output)
    whole = whole_run(lambda: scenario.run(folder), folder, output)
    if whole.code != 0:
        return [f'{scenario.name} fails undisturbed: {whole.output[-300:]}']
    expected, total = contents(folder), len(whole.operations)
    opening = [at for at, opens in enumerate(whole.operations, 1) if opens]
    faults = []
    for at in sorted({opening[moment * (len(opening) - 1) // (MOMENTS - 1)] for moment in range(MOMENTS)}):
        shutil.rmtree(folder)
        make_ready(scenario, folder, output)
        end = full_disk_run(lambda: scenario.run(folder), folder, output, at)
        if fault := _fault(end.code, end.output) or fault_of_next_run(scenario, folder, output, expected):
            faults.append(f'{scenario.name}, from operation {at} of {total} on: {fault}')
    return faults


def _fault(code: int, output: str) -> str | None:
    if 'Traceback' in output:
        return f'a traceback: {output[-400:]}'
    told = [line for line in output.splitlines() if TOLD.search(line)]
    errors = [line for line in told if line.startswith('error: ')]
    if not told or len(errors) > 1 or (code != 0) != bool(errors) or code not in (0, 2):
        return f'exit code {code} and {len(errors)} lines of error: {output[-400:]}'
    return None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', metavar='NAME', help='names of commands, such as train (all)')
    return parser.parse_args()


def main() -> int:
    held, faults = [], []
    for scenario, place in chosen_scenarios(parse_args().only, more=True):
        wrong = check(scenario, place)
        faults += wrong
        held.append(not wrong)
        print(f'{scenario.name}: {len(wrong)} faults', file=sys.stderr)
    print(json.dumps({'commands': len(held), 'held': sum(held), 'faults': faults}))
    return int(bool(faults))


if __name__ == '__main__':
    sys.exit(run_cli(main))
