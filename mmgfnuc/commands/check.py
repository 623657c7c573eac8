"""Measure a prepared dataset and report what is wrong with it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmgfnuc.files import write_json

EPILOG = """\
Each fault comes with its number, examples and what to do.
  error     cannot be trained on, or gives scores that mean nothing: broken files, maps of another size,
            one id for many nuclei, a slide in two parts of a split, ...
  warning   worth a look: mpp unknown or implausible, specks, giant nuclei, nuclei on more than half of an
            image, nuclei in several pieces, blank or clipped images, duplicates, images without nuclei, ...
  remark    nothing to mend

The exit code is 1 if there are errors, else 0.

examples:
  mmgfnuc check data/nuinsseg
  mmgfnuc check data/nuinsseg --json nuinsseg.json

See the images with their contours: mmgfnuc browse data/nuinsseg --out nuinsseg.html"""


def main(arguments: Sequence[str]) -> int:
    """Check a data set as the arguments say; return 1 if it has errors."""
    parser = argparse.ArgumentParser(
        prog='mmgfnuc check', description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, metavar='ROOT', help='dataset, as `mmgfnuc prepare` writes it')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write numbers and all faults to a JSON file')
    args = parser.parse_args(arguments)
    from mmgfnuc.datasets.inspection import inspect_dataset, report_text

    report = inspect_dataset(args.root)
    print(report_text(report))
    if args.json:
        write_json(args.json, report.to_json())
    return 0 if report.sound else 1
