"""Bring a dataset into the canonical form that the configs train on."""

import argparse
import sys
from pathlib import Path

from mmgfnuc.datasets.canonical import (
    count_nuclei,
    list_ids,
    list_splits,
    read_label_map,
    read_meta,
    sample_paths,
    write_split,
)
from mmgfnuc.datasets.converters.nuinsseg import NAME, convert_nuinsseg, read_groups
from mmgfnuc.datasets.splits import NUINSSEG_IMAGES, Split, group_holdout, grouped_folds, official_nuinsseg_folds
from mmgfnuc.datasets.staging import staged_dataset
from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.errors import UserError

DEFAULT_VAL_ORGANS = ['human rectum', 'human kidney', 'mouse heart']

NUINSSEG_HELP = """\
Convert NuInsSeg (H&E, 512x512, 31 human and mouse organs; CC BY 4.0) from its authors' layout:

  SOURCE/human bladder/tissue images/human_bladder_01.png
  SOURCE/human bladder/label masks modify/human_bladder_01.tif
  SOURCE/human bladder/vague areas/mask binary/human_bladder_01.png   (optional: becomes ignore/)

An organ is one slide, so splits keep organs whole. Written to OUT/splits/:
  organs               train and val by --val-groups
  grouped-K-fold-i     with --folds K --grouped
  official-i           the five folds of the paper (not grouped); only when all 665 images are there
"""
NUINSSEG_EXAMPLES = """\
examples:
  python tools/datasets/prepare.py nuinsseg --source ~/NuInsSeg --out data/nuinsseg
  python tools/datasets/prepare.py nuinsseg --source ~/NuInsSeg --out data/nuinsseg --folds 5 --grouped
  python tools/datasets/prepare.py nuinsseg --source ~/NuInsSeg --out data/nuinsseg --val-groups "human lung"

Bad source files are all reported at once and nothing is written. An earlier NuInsSeg at OUT is replaced whole;
any other content there is left alone and reported.
"""
SYNTHETIC_HELP = 'Draw synthetic H&E images with exact instance maps: no download, for demos and tests.'
SYNTHETIC_EXAMPLES = """\
example:
  python tools/datasets/prepare.py synthetic --out data/synthetic --train 64 --val 16
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f'{__doc__} Try: prepare.py nuinsseg --help')
    commands = parser.add_subparsers(dest='dataset', required=True, metavar='DATASET')

    nuinsseg = _add_command(commands, 'nuinsseg', NUINSSEG_HELP, NUINSSEG_EXAMPLES)
    nuinsseg.add_argument('--source', type=Path, required=True, help='folder that holds the organ folders')
    nuinsseg.add_argument('--out', type=Path, required=True, help='folder to write; the configs expect data/nuinsseg')
    nuinsseg.add_argument(
        '--val-groups',
        nargs='+',
        metavar='ORGAN',
        help=f'organs of the validation part of split "organs" (default: {", ".join(DEFAULT_VAL_ORGANS)})',
    )
    nuinsseg.add_argument('--folds', type=int, metavar='K', help='also write K folds; needs --grouped')
    nuinsseg.add_argument('--grouped', action='store_true', help='keep each organ whole in one fold')
    nuinsseg.set_defaults(prepare=prepare_nuinsseg)

    synthetic = _add_command(commands, 'synthetic', SYNTHETIC_HELP, SYNTHETIC_EXAMPLES)
    synthetic.add_argument('--out', type=Path, required=True, help='folder to write')
    synthetic.add_argument('--train', type=int, default=64, metavar='N', help='training images (default: %(default)s)')
    synthetic.add_argument('--val', type=int, default=16, metavar='N', help='validation images (default: %(default)s)')
    synthetic.add_argument('--size', type=int, default=256, help='height and width in pixels (default: %(default)s)')
    synthetic.add_argument('--seed', type=int, default=0, help='equal seed, equal images (default: %(default)s)')
    synthetic.set_defaults(prepare=prepare_synthetic)
    return parser


def prepare_nuinsseg(args: argparse.Namespace) -> None:
    groups = read_groups(args.source)
    splits = plan_splits(groups, args.val_groups, args.folds, args.grouped)
    with staged_dataset(args.out, NAME) as root:
        convert_nuinsseg(args.source, root)
        for name, parts in splits.items():
            write_split(root, name, parts)


def prepare_synthetic(args: argparse.Namespace) -> None:
    write_dataset(args.out, num_train=args.train, num_val=args.val, size=args.size, seed=args.seed)


def plan_splits(
    groups: dict[str, str], val_groups: list[str] | None, folds: int | None, grouped: bool
) -> dict[str, Split]:
    """All splits of NuInsSeg by name; a split that these images cannot give is named in a notice."""
    if (folds is not None) != grouped:
        raise UserError(
            '--folds and --grouped go together: folds that cut an organ leak parts of one slide from train to val; '
            'give --folds K --grouped'
        )
    splits: dict[str, Split] = {}
    if val_groups is None and not set(DEFAULT_VAL_ORGANS) < set(groups.values()):
        print(f'notice: no split "organs": it needs {", ".join(DEFAULT_VAL_ORGANS)} and more; choose with --val-groups')
    else:
        splits['organs'] = group_holdout(groups, val_groups or DEFAULT_VAL_ORGANS)
    if folds is not None:
        splits |= {f'grouped-{folds}-fold-{i}': fold for i, fold in enumerate(grouped_folds(groups, folds))}
    if len(groups) == NUINSSEG_IMAGES:
        splits |= {f'official-{i}': fold for i, fold in enumerate(official_nuinsseg_folds(groups))}
    else:
        print(f'notice: no official folds: they are defined on all {NUINSSEG_IMAGES} images, here are {len(groups)}')
    return splits


def print_summary(root: Path) -> None:
    ids = list_ids(root)
    nuclei = sum(count_nuclei(read_label_map(sample_paths(root, i).label)) for i in ids)
    ambiguous = sum(sample_paths(root, i).ignore is not None for i in ids)
    groups = {image['group'] for image in read_meta(root)['images'].values()}
    print(f'{root}: {len(ids)} images, {nuclei:,} nuclei, {len(groups)} groups, {ambiguous} with ambiguous areas')
    print(f'splits: {", ".join(list_splits(root)) or "none"}')
    print('next: python tools/train.py CONFIG, with a config of configs/ that reads this folder')


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    args.prepare(args)
    print_summary(args.out)


def _add_command(
    commands: argparse._SubParsersAction, name: str, description: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=description.splitlines()[0].rstrip(':'),
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


if __name__ == '__main__':
    sys.exit(run_cli(main))
