"""Segment nuclei in images with a trained checkpoint: masks, pictures, and a table of areas."""

import argparse
import sys

from mmengine.config import DictAction

from mmgfnuc.engine import launch
from mmgfnuc.engine.cli import positive_float, run_cli
from mmgfnuc.inference import NucleiInferencer
from mmgfnuc.inference.folder import find_images, segment_images

EPILOG = """examples:
  python tools/infer.py slide.png --checkpoint work_dirs/nuinsseg_vit-tiny/iter_1000.pth --out results
  python tools/infer.py scans/*.tif --checkpoint CHECKPOINT --out results --mpp 0.5

The checkpoint carries its config, whose `model.test_cfg` says at which resolution and in which (overlapping) tiles
large images are predicted.
In the output folder: masks/<name>.png (0 and 255), overlays/<name>.png (contours), nuclei.csv with one line for each
connected region: its area in pixels (and square micrometres with --mpp). Nuclei that touch count as one region."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', nargs='+', help='images, folders, or glob patterns')
    parser.add_argument('--checkpoint', required=True, help='.pth file written by tools/train.py')
    parser.add_argument('--out', required=True, metavar='DIR', help='output folder')
    parser.add_argument('--config', help="use this config instead of the checkpoint's own")
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override the config')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    parser.add_argument('--mpp', type=positive_float, help='micrometres per pixel of the images')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    images = find_images(args.input)
    config = launch.load_config(args.config) if args.config else None
    inferencer = NucleiInferencer(args.checkpoint, config, args.cfg_options, args.device)
    segment_images(inferencer, images, args.out, args.mpp)


if __name__ == '__main__':
    sys.exit(run_cli(main))
