"""Score a checkpoint on the test part of its data."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmgfnuc.engine.cli import ConfigOptions
from mmgfnuc.engine.distributed import LAUNCHERS
from mmgfnuc.files import read_csv, read_json

EPILOG = """examples:
  mmgfnuc test work_dirs/nuinsseg_vit_tiny/iter_1000.pth       on the data that it was trained on
  mmgfnuc test CHECKPOINT --show-dir pictures                  what is wrong in each image
  mmgfnuc test CHECKPOINT --data data/other --split default --work-dir work_dirs/on_other
  mmgfnuc test CONFIG CHECKPOINT                               by another config than the checkpoint's own
  bash tools/dist_test.sh CONFIG CHECKPOINT 4            the same scores from 4 processes

written to <work dir>/test/, beside a log and the config of the test:
  metrics.json, per_image.csv     semantic scores (Dice, IoU): of all images and by group; of each image
  instances.json, instances.csv   instance scores (AJI, PQ, F1); false negatives and positives, merged, split
  tested.json                     which checkpoint and data these are of
Intervals in the JSON files are bootstrapped over groups (slides, patients or organs, as the data set says).

--out writes, of each image:
  DIR/<id>.png                    semantic mask: 0 background, 255 nucleus (types: grey levels evenly between)
  DIR/labels/<id>.png             label map: 0 background, then the id of each nucleus (16 bits; <id>.tif above 65,535)
--show-dir writes DIR/<id>.png: tissue, truth, prediction and errors side by side. Colours say what became of each
nucleus: matched (IoU above 0.5), else merged with a neighbour, else split, else a false negative (true)
or a false positive (predicted). The scores count as false all that are not matched, and as merged or split the
matched ones too."""

SCORES = {'dice': 'Dice', 'aji': 'AJI', 'pq': 'PQ'}
NUM_WORST = 3


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='mmgfnuc test',
        usage='%(prog)s [CONFIG] CHECKPOINT [options]',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'files',
        nargs='+',
        metavar='FILE',
        help='.pth file written by `mmgfnuc train`, after a config file where it is not to be tested by its own config',
    )
    parser.add_argument('--data', metavar='DIR', help="prepared data set to test on (default: the config's)")
    parser.add_argument('--split', metavar='NAME', help="split of the data set (default: the config's)")
    parser.add_argument(
        '--work-dir',
        help='folder for scores and logs (default: that of the checkpoint, with CONFIG work_dirs/<config name>)',
    )
    parser.add_argument('--out', metavar='DIR', help='write predicted masks and label maps here')
    parser.add_argument('--show-dir', metavar='DIR', help='write a picture of the errors in each image here')
    parser.add_argument('--cfg-options', action=ConfigOptions, help='override the config')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='set by the dist scripts')
    # So that options may stand between the files.
    args = parser.parse_intermixed_args(arguments)
    if len(args.files) > 2:
        parser.error(f'{len(args.files)} files are given; give a checkpoint, or a config and a checkpoint')
    if len(args.files) == 1 and Path(args.files[0]).suffix == '.py':
        parser.error(f'{args.files[0]} is a config; give also the checkpoint to test')
    return args


def summary(scores: dict[str, Any], folder: Path) -> str:
    """Put what a reader wants first into a few lines: scores of the run, with more from the reports in its folder."""
    from mmgfnuc.evaluation.per_image_metric import TESTED

    made = read_json(folder / TESTED, 'test again', reports=list)['reports'] if (folder / TESTED).is_file() else []
    reports = [read_json(folder / name, 'test again') for name in made]
    lines = _score_lines(scores, [report['intervals'] for report in reports if report.get('intervals')])
    if 'aji' in scores:
        counts = {name: f'{scores[name]:,}' for name in ('num_truth', 'num_predicted')}
        lines.append(
            f'{counts["num_truth"]} true nuclei, {scores["false_negatives"]:,} false negatives, '
            f'{scores["split"]:,} split'
        )
        lines.append(
            f'{counts["num_predicted"]} predicted nuclei, {scores["false_positives"]:,} false positives, '
            f'{scores["merged"]:,} merge several true ones'
        )
        lines += _worst_line(folder / 'instances.csv') if 'instances.json' in made else []
    return '\n'.join(lines)


def _score_lines(scores: dict[str, Any], intervals: list[dict[str, Any]]) -> list[str]:
    known = {name: ends for found in intervals for name, ends in found['scores'].items() if ends}
    heading = [f'{100 * found["level"]:g} % interval (groups: {found["groups"]})' for found in intervals[:1]]
    lines = ['       '.join(['        mean', *heading])]
    for name, title in SCORES.items():
        if name in scores:
            value = f'{scores[name]:.3f}' if math.isfinite(scores[name]) else 'none'
            interval = '{:.3f} to {:.3f}'.format(*known[name]) if name in known else 'none'
            lines.append(f'{title:4}{value:>8}       {interval}' if heading else f'{title:4}{value:>8}')
    return lines


def _worst_line(table: Path) -> list[str]:
    scored = [(float(row['aji']), row['id']) for row in read_csv(table, 'test again', 'aji', 'id') if row['aji']]
    worst = ', '.join(f'{name} ({aji:.3f})' for aji, name in sorted(scored)[:NUM_WORST])
    return [f'lowest AJI: {worst}'] if worst else []


def main(arguments: Sequence[str]) -> None:
    """Test as the arguments say."""
    args = parse_args(arguments)
    from mmengine.dist import is_main_process

    from mmgfnuc.engine import launch
    from mmgfnuc.engine.config import load_config, set_launcher

    # A checkpoint alone is tested by its own config.
    config, checkpoint = args.files[0], args.files[-1]
    cfg = load_config(config, args.cfg_options, args.work_dir)
    launch.use_data(cfg, args.data, args.split, ['test'])
    set_launcher(cfg, args.launcher)
    scores = launch.test(cfg, checkpoint, args.out, args.show_dir)
    if is_main_process():
        print(summary(scores, Path(cfg.work_dir)))
        print(f'written to {cfg.work_dir}')
