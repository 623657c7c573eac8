"""Bring a dataset into the canonical form that the configs train on."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmgfnuc.datasets.canonical import count_nuclei, list_splits, read_label_map, read_meta, read_split, sample_paths
from mmgfnuc.datasets.converters import CONVERTERS, Converter, convert
from mmgfnuc.datasets.converters.base import SWITCH
from mmgfnuc.datasets.splits import Split, group_holdout, grouped_folds
from mmgfnuc.datasets.synthetic import CLASSES, write_dataset
from mmgfnuc.engine.cli import positive_float
from mmgfnuc.errors import UserError

# For images of one's own and for any other set: no weight file, two CPU cores.
CONFIG = 'configs/cpu/own_data.py'
# Proposed where a set has no split.
FOLDS = 5
EPILOG = """\
examples:
  mmgfnuc prepare nuinsseg --source ~/NuInsSeg --out data/nuinsseg
  mmgfnuc prepare nuinsseg --source ~/NuInsSeg.zip --out data/nuinsseg --folds 5
  mmgfnuc prepare nuinsseg --help     what is read, and the options

Each dataset has a page in docs/datasets/. Look at the result: mmgfnuc check OUT"""
DESCRIPTION = """\
Convert {title}{licence} from a folder or an archive of it:

{layout}

{origin}Splits go to OUT/splits/: those of the authors where all their images are there; "{holdout}" with --val-groups;
grouped-K-fold-i with --folds K, each group (slide, patient, organ) whole in one fold.
"""
COMMAND_EPILOG = """\
examples:
  mmgfnuc prepare {name} --source DIR --out data/{name}
  mmgfnuc prepare {name} --source DIR --out data/{name} --mpp 0.5 --folds 5

Bad source files are all reported at once and nothing is written. An interrupted run goes on where it was. A dataset
at OUT is kept unless --overwrite says to replace it whole, and any other content there is never touched: both are
refused before anything is converted. The last line is the command that trains on the result.
"""
SYNTHETIC_HELP = 'Draw synthetic H&E images with exact instance maps: no download, for demos and tests.'
SYNTHETIC_EXAMPLES = """\
examples:
  mmgfnuc prepare synthetic --out data/synthetic --train 64 --val 16
  mmgfnuc prepare synthetic --out data/synthetic_typed --types
"""


def build_parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog='mmgfnuc prepare', description=__doc__, epilog=EPILOG, formatter_class=raw)
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
    _add_overwrite(synthetic)
    synthetic.set_defaults(prepare=prepare_synthetic)
    return parser


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier preparation at OUT')


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
        choices: dict[str, Any] = {'choices': option.choices} if option.choices else {}
        if option.choices == SWITCH:
            choices |= {'nargs': '?', 'const': 'yes'}
        text = option.help + (f' (default: {option.default})' if option.default else '')
        parser.add_argument(f'--{option.name}', help=text, **choices)
    parser.add_argument(
        '--val-groups',
        nargs='+',
        metavar='GROUP',
        help=f'groups held out as val of split "{name}" (default: {", ".join(groups) or "none, no such split"})',
    )
    parser.add_argument('--folds', type=int, metavar='K', help='also write K folds that keep each group whole')
    parser.add_argument('--mpp', type=positive_float, metavar='UM', help='resample to this many micrometres per pixel')
    parser.add_argument(
        '--source-mpp', type=positive_float, metavar='UM', help='of images that state none, nor their dataset'
    )
    parser.add_argument('--allow-leaks', action='store_true', help='accept groups or equal images in two parts')
    parser.add_argument('--workers', type=int, metavar='N', help='processes (default: one for each CPU if it pays)')
    _add_overwrite(parser)
    parser.set_defaults(prepare=partial(prepare_converted, converter))


def prepare_converted(converter: Converter, args: argparse.Namespace) -> None:
    if args.workers is not None and args.workers < 1:
        raise UserError(f'--workers {args.workers}: give a number above 0')
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
    for notice in (*report.notices, *report.differences):
        print(f'notice: {notice}')


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


def print_summary(root: Path, arguments: Sequence[str]) -> None:
    images = read_meta(root)['images']
    nuclei = sum(count_nuclei(read_label_map(sample_paths(root, sample_id).label)) for sample_id in images)
    ambiguous = sum(sample_paths(root, sample_id).ignore is not None for sample_id in images)
    groups = {image['group'] for image in images.values()}
    print(f'{root}: {len(images)} images, {nuclei:,} nuclei, {len(groups)} groups, {ambiguous} with ambiguous areas')
    if len(groups) == len(images) > 1:
        print('notice: each image is a group of its own; if some show one slide, splits by group do not keep it whole')
    print(f'splits: {", ".join(list_splits(root)) or "none"}')
    folder = shlex.quote(str(root))
    print(f'look:  mmgfnuc check {folder}')
    split = find_split(root)
    if split:
        print(f'train: mmgfnuc train {CONFIG} --data {folder} --split {shlex.quote(split)}')
    elif len(groups) > 1:
        overwrite = [] if '--overwrite' in arguments else ['--overwrite']
        again = [*arguments, '--folds', str(min(len(groups), FOLDS)), *overwrite]
        print(f'next, as training needs a split: mmgfnuc prepare {shlex.join(again)}')
    else:
        print('next: add images of another group (slide, patient): training needs a split, and no group is ever cut')


def find_split(root: Path) -> str | None:
    """First split that can be trained and validated on, one whose parts share no group if there is one."""
    meant = read_meta(root).get('splits_with_leaks', ())
    names = [name for name in list_splits(root) if {'train', 'val'} <= read_split(root, name).keys()]
    return min(names, key=lambda name: name in meant, default=None)


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Keep what was prepared before, unless the user wants it replaced."""
    if (out / 'meta.json').is_file() and not overwrite:
        name = read_meta(out)['name']
        raise UserError(
            f'{out} already holds a prepared dataset ({name}); --overwrite replaces it, another --out keeps it'
        )


def main(arguments: Sequence[str]) -> None:
    """Prepare a data set as the arguments say."""
    args = build_parser().parse_args(arguments)
    refuse_existing(args.out, args.overwrite)
    args.prepare(args)
    print_summary(args.out, arguments)
