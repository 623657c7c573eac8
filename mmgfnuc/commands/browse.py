"""Write a page that shows a prepared dataset: numbers, faults, distributions and images with their contours."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmgfnuc.errors import UserError
from mmgfnuc.files import output_lock, whole_file

EPILOG = """\
The page is one HTML file of at most about 10 MB: it needs no network and can be sent by mail. More images
are shown smaller.

examples:
  mmgfnuc browse data/nuinsseg --out nuinsseg.html
  mmgfnuc browse data/nuinsseg --out nuinsseg.html --images 200"""


def main(arguments: Sequence[str]) -> None:
    """Write a page as the arguments say."""
    parser = argparse.ArgumentParser(
        prog='mmgfnuc browse', description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, metavar='ROOT', help='dataset, as `mmgfnuc prepare` writes it')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='page to write')
    parser.add_argument(
        '--images', type=int, default=48, metavar='N', help='images to show, evenly over groups (%(default)s)'
    )
    args = parser.parse_args(arguments)
    from mmgfnuc.datasets.inspection import inspect_dataset
    from mmgfnuc.visualization.dataset_page import dataset_page

    if args.images < 1:
        raise UserError(f'--images {args.images}: give a number from 1')
    if args.out.exists() and not args.out.is_file():
        raise UserError(f'--out {args.out} is a folder or a device, which is not written over; name a file')
    with output_lock(args.out), whole_file(args.out) as file:
        page = dataset_page(inspect_dataset(args.root), args.images)
        file.write_text(page, encoding='utf-8', errors='backslashreplace')
    name = str(args.out).encode(errors='backslashreplace').decode()
    print(f'{name}: {args.out.stat().st_size / 1e6:.1f} MB, open it in a browser')
