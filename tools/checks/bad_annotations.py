"""Give the readers of annotations hostile and unlucky files: each must end in one line or a notice.

Every case is read in a process of its own, as tools/datasets/prepare.py would, with little memory and time. Handled is
a case that ends as the table says: `error`, one line for its file; `notice`, a line that names the outline; `read`,
without either. A traceback, a signal or a wait for ever is not handled.

Prints one line of JSON: python tools/checks/bad_annotations.py [NAME ...]
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
from annotation_cases import ERROR, NOTICE, READ, SIZE, Write, cases

from mmgfnuc.datasets.converters import CONVERTERS, convert
from mmgfnuc.errors import UserError

SECONDS = 60
MEMORY = 4 * 2**30
NAMES = {'geojson': 'a.geojson', 'coco': 'annotations.json', 'monuseg': 'a.xml'}


def build(folder: Path, source: str, write: Write) -> Path:
    """A source with one image, and its annotations."""
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    root = folder / 'source'
    for name in ('images', 'annotations') if source == 'geojson' else ('images',):
        (root / name).mkdir(parents=True)
    cv2.imwrite(str(root / ('a.tif' if source == 'monuseg' else 'images/a.png')), image)
    write(root / ('annotations' if source == 'geojson' else '') / NAMES[source])
    return root


def attempt(source: str, root: Path, out: Path, answer: Connection) -> None:
    """Convert in this process, and answer with what a user would read."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        report = convert(CONVERTERS[source], root, out, workers=1)
        answer.send((NOTICE if report.notices else READ, report.notices))
    except UserError as error:
        answer.send((ERROR, str(error).splitlines()))
    except BaseException as error:
        answer.send(('traceback', [f'{type(error).__name__}: {error}'[:200]]))


def outcome_of(source: str, write: Write) -> tuple[str, list[str]]:
    """How one case ends, in a process of its own."""
    context = multiprocessing.get_context('fork')
    with tempfile.TemporaryDirectory() as folder:
        receive, send = context.Pipe(duplex=False)
        root = build(Path(folder), source, write)
        process = context.Process(target=attempt, args=(source, root, Path(folder) / 'out', send))
        process.start()
        send.close()
        try:
            ended = receive.recv() if receive.poll(SECONDS) else ('a wait for ever', [])
        except EOFError:
            process.join()
            ended = (f'signal {-(process.exitcode or 0)}', [])
        process.kill()
        process.join()
    return ended


def is_handled(expected: str, outcome: str, lines: list[str]) -> bool:
    """Whether a case ended as it must: an error is one line, with a line above it that counts the files."""
    short = len(lines) <= (2 if outcome == ERROR else 3) and all(len(line) < 700 for line in lines)
    return outcome == expected and (short or outcome == READ)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help='cases, such as "coco, named pipe" (default: all)')
    table = cases()
    chosen = parser.parse_args().names or list(table)
    wrong = {}
    for name in chosen:
        source, expected, write = table[name]
        outcome, lines = outcome_of(source, write)
        if not is_handled(expected, outcome, lines):
            wrong[name] = f'{expected} expected, {outcome}: {" | ".join(lines)[:300]}'
    handled = len(chosen) - len(wrong)
    print(json.dumps({'check': 'bad_annotations', 'result': f'{handled} of {len(chosen)} handled', 'wrong': wrong}))
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
