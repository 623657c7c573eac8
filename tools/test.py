"""Score a checkpoint on the test part of its data."""

import argparse

from mmengine.config import DictAction

from mmgfnuc.engine import launch
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.engine.distributed import leave

EPILOG = """examples:
  python tools/test.py configs/cpu/nuinsseg_vit-tiny.py work_dirs/nuinsseg_vit-tiny/iter_1000.pth
  python tools/test.py CONFIG CHECKPOINT --show-dir pictures     contours: truth green, prediction yellow
  bash tools/dist_test.sh CONFIG CHECKPOINT 4                    the same scores from 4 processes

Scores are printed and written to <work dir>/test/: metrics.json and per_image.csv."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='.pth file written by tools/train.py')
    parser.add_argument('--work-dir', help='folder for scores and logs (default: work_dirs/<config name>)')
    parser.add_argument('--out', metavar='DIR', help='write the predicted masks here (PNG, 0 and 255)')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures with contours of truth and prediction here')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override the config')
    parser.add_argument('--launcher', choices=launch.LAUNCHERS, default='none', help='set by the dist scripts')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = launch.load_config(args.config, args.cfg_options, args.work_dir)
    launch.set_launcher(cfg, args.launcher)
    launch.test(cfg, args.checkpoint, args.out, args.show_dir)


if __name__ == '__main__':
    leave(run_cli(main))
