"""Bring a dataset into the canonical form that the configs train on."""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mmgfnuc.datasets.canonical import count_nuclei, list_splits, read_label_map, read_meta, sample_paths
from mmgfnuc.datasets.converters import CONVERTERS, Converter, convert
from mmgfnuc.datasets.splits import Split, group_holdout, grouped_folds
from mmgfnuc.datasets.synthetic import CLASSES, write_dataset
from mmgfnuc.engine.cli import positive_float, run_cli
from mmgfnuc.errors import UserError

EPILOG = """\
examples:
  python tools/datasets/prepare.py nuinsseg --source ~/NuInsSeg --out data/nuinsseg
  python tools/datasets/prepare.py nuinsseg --source ~/NuInsSeg.zip --out data/nuinsseg --folds 5 --grouped
  python tools/datasets/prepare.py nuinsseg --help     what is read, and the options

Each dataset has a page in docs/datasets/. Look at the result: python tools/datasets/check.py OUT"""
DESCRIPTION = """\
Convert {title}{licence} from a folder or an archive of it:

{layout}

{origin}Splits go to OUT/splits/: those of the authors where all their images are there; "{holdout}" with --val-groups;
grouped-K-fold-i with --folds K --grouped.
"""
COMMAND_EPILOG = """\
examples:
  python tools/datasets/prepare.py {name} --source DIR --out data/{name}
  python tools/datasets/prepare.py {name} --source DIR --out data/{name} --mpp 0.5 --folds 5 --grouped

Bad source files are all reported at once and nothing is written. An interrupted run goes on where it was. An earlier
{title} at OUT is replaced whole; any other content there is left alone and reported.
"""
SYNTHETIC_HELP = 'Draw synthetic H&E images with exact instance maps: no download, for demos and tests.'
SYNTHETIC_EXAMPLES = """\
examples:
  python tools/datasets/prepare.py synthetic --out data/synthetic --train 64 --val 16
  python tools/datasets/prepare.py synthetic --out data/synthetic_typed --types
"""


def build_parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    commands = parser.add_subparsers(dest='dataset', required=True, metavar='DATASET', help='one of:')
    for converter in CONVERTERS.values():
        _add_converter(commands, converter)
    synthetic = commands.add_parser(
        'synthetic', help=SYNTHETIC_HELP, description=SYNTHETIC_HELP, epilog=SYNTHETIC_EXAMPLES, formatter_class=raw
    )
    synthetic.add_argument('--out', type=Path, required=True, help='folder to write')
    synthetic.add_argument('--train', type=int, default=64, metavar='N', help='training images (default: %(default)s)')
    synthetic.add_argument('--val', type=int, default=16, metavar='N', help='validation images (default: %(default)s)')
    synthetic.add_argument('--size', type=int, default=256, help='height and width in pixels (default: %(default)s)')
    synthetic.add_argument('--seed', type=int, default=0, help='equal seed, equal images (default: %(default)s)')
    synthetic.add_argument(
        '--types', action='store_true', help=f'also tell nucleus types apart: {", ".join(CLASSES[1:])}; same images'
    )
    synthetic.set_defaults(prepare=prepare_synthetic)
    return parser


def _add_converter(commands: argparse._SubParsersAction, converter: Converter) -> None:
    name, groups = converter.holdout
    parser = commands.add_parser(
        converter.name,
        help=converter.title,
        description=DESCRIPTION.format(
            title=converter.title,
            licence=f' ({converter.licence})' if converter.licence else '',
            layout=converter.layout,
            origin=f'Get it from {converter.page}\n' if converter.page.startswith('http') else '',
            holdout=name,
        ).replace('%', '%%'),
        epilog=COMMAND_EPILOG.format(name=converter.name, title=converter.title),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--source', type=Path, required=True, help='folder or archive (.zip, .tar, .tar.gz, ...)')
    parser.add_argument('--out', type=Path, required=True, help=f'folder to write, such as data/{converter.name}')
    for option in converter.options:
        choices = {'choices': option.choices} if option.choices else {}
        text = option.help + (f' (default: {option.default})' if option.default else '')
        parser.add_argument(f'--{option.name}', help=text, **choices)
    parser.add_argument(
        '--val-groups',
        nargs='+',
        metavar='GROUP',
        help=f'groups held out as val of split "{name}" (default: {", ".join(groups) or "none, no such split"})',
    )
    parser.add_argument('--folds', type=int, metavar='K', help='also write K folds; needs --grouped')
    parser.add_argument('--grouped', action='store_true', help='keep each group (slide, patient, organ) in one fold')
    parser.add_argument('--mpp', type=positive_float, metavar='UM', help='resample to this many micrometres per pixel')
    parser.add_argument(
        '--source-mpp', type=positive_float, metavar='UM', help='of images for which the dataset states none'
    )
    parser.add_argument('--allow-leaks', action='store_true', help='accept groups or equal images in two parts')
    parser.add_argument('--workers', type=int, metavar='N', help='processes (default: one for each CPU if it pays)')
    parser.set_defaults(prepare=partial(prepare_converted, converter))


def prepare_converted(converter: Converter, args: argparse.Namespace) -> None:
    if args.workers is not None and args.workers < 1:
        raise UserError(f'--workers {args.workers}: give a number above 0')
    if (args.folds is not None) != args.grouped:
        raise UserError(
            '--folds and --grouped go together: folds that cut a group leak parts of one slide from train to val; '
            'give --folds K --grouped'
        )
    report = convert(
        converter,
        args.source,
        args.out,
        {option.name: getattr(args, option.name.replace('-', '_')) for option in converter.options},
        mpp=args.mpp,
        source_mpp=args.source_mpp,
        plan=partial(plan_splits, converter, args.val_groups, args.folds),
        allow_leaks=args.allow_leaks,
        workers=args.workers,
    )
    if converter.overlaps:
        print(f'overlaps: {converter.overlaps}')
    for difference in report.differences:
        print(f'notice: {difference}')


def prepare_synthetic(args: argparse.Namespace) -> None:
    write_dataset(args.out, num_train=args.train, num_val=args.val, size=args.size, seed=args.seed, types=args.types)


def plan_splits(
    converter: Converter, val_groups: list[str] | None, folds: int | None, groups: Mapping[str, str]
) -> dict[str, Split]:
    """Splits that the user asks for, by name; the default one is left out, with a notice, where its groups lack."""
    name, default = converter.holdout
    splits: dict[str, Split] = {}
    if val_groups or set(default) < set(groups.values()):
        if val_groups or default:
            splits[name] = group_holdout(groups, val_groups or default)
    elif default:
        print(f'notice: no split "{name}": it needs {", ".join(default)} and more; choose with --val-groups')
    if folds is not None:
        splits |= {f'grouped-{folds}-fold-{i}': fold for i, fold in enumerate(grouped_folds(groups, folds))}
    return splits


def print_summary(root: Path) -> None:
    images = read_meta(root)['images']
    nuclei = sum(count_nuclei(read_label_map(sample_paths(root, sample_id).label)) for sample_id in images)
    ambiguous = sum(sample_paths(root, sample_id).ignore is not None for sample_id in images)
    groups = {image['group'] for image in images.values()}
    print(f'{root}: {len(images)} images, {nuclei:,} nuclei, {len(groups)} groups, {ambiguous} with ambiguous areas')
    if len(groups) == len(images) > 1:
        print('notice: each image is a group of its own; if some show one slide, splits by group do not keep it whole')
    print(f'splits: {", ".join(list_splits(root)) or "none"}')
    print(f'next: python tools/datasets/check.py {root}, then python tools/train.py CONFIG')


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    args.prepare(args)
    print_summary(args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
