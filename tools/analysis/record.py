"""Write a measured result down as a record under docs/results/."""

import argparse
import sys
from pathlib import Path

from mmgfnuc.analysis import make_record
from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.engine.cli import run_cli

EPILOG = """example:
  python tools/analysis/record.py nuinsseg_vit-tiny --title 'NuInsSeg, 3 held-out organs (CPU budget)' \\
      --checkpoint work_dirs/nuinsseg_vit-tiny/iter_1000.pth --data data/nuinsseg --split organs \\
      --command 'python tools/train.py ...' --command 'python tools/test.py ...'

Run tools/test.py on every checkpoint first, then this, then `make table`."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', help='file stem of the record')
    parser.add_argument('--title', required=True, help='what was measured, and under which budget')
    parser.add_argument('--checkpoint', required=True, action='append', type=Path, help='tested; one for each seed')
    parser.add_argument('--data', required=True, help='data set that was scored')
    parser.add_argument('--split', help='(default: all images)')
    parser.add_argument('--part', default='val')
    parser.add_argument('--command', required=True, action='append', help='that made the result; in order')
    parser.add_argument('--picture', type=Path, help='one of tools/test.py --show-dir: what is wrong in an image')
    parser.add_argument('--remark', default='', help='what a reader must know to judge the scores')
    parser.add_argument('--baseline', help='record that this arm of a study is compared with')
    parser.add_argument('--folder', type=Path, default=Path('docs/results'))
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    dataset = NucleiDataset(args.data, args.split, args.part)
    path = make_record(
        args.folder,
        args.name,
        args.title,
        args.command,
        args.checkpoint,
        dataset,
        picture=args.picture,
        remark=args.remark,
        baseline=args.baseline,
    )
    print(f'{path} written; now run: make table')


if __name__ == '__main__':
    sys.exit(run_cli(main))
