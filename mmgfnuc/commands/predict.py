"""Find nuclei in images with a trained checkpoint: label maps, pictures, outlines for QuPath, a table of measures."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmgfnuc.datasets.pixel_size import check_mpp
from mmgfnuc.engine.cli import ConfigOptions, positive_float
from mmgfnuc.errors import UserError

EPILOG = """examples:
  mmgfnuc predict slide.png --checkpoint work_dirs/nuinsseg_vit_tiny/iter_1000.pth --out results
  mmgfnuc predict scans/*.tif --checkpoint CHECKPOINT --out results --mpp 0.5

The checkpoint carries its config, whose `model.test_cfg` says at which resolution and in which (overlapping) tiles
large images are predicted; nuclei are separated in the whole image afterwards, so that no seam cuts one.

in the output folder, for each image:
  labels/<name>.png       label map, 16 bits: 0 background, 1, 2, 3, ... the nuclei (<name>.tif, 32 bits, above 65,535)
  masks/<name>.png        0 background, 255 nucleus; with nucleus types each has a grey level of its own
  overlays/<name>.png     the image, a contour inside each nucleus, in the colour of its type if the model tells types
  geojson/<name>.geojson  outlines, classes and measures; drag it onto the open image in QuPath
and for all of them:
  nuclei.csv              a line for each nucleus: place, size, shape, staining, confidence
  images.csv              a line for each image: done or failed and why, number of nuclei, size of a pixel

Where the size of a pixel is known, by --mpp or from the file (SVS, OME-TIFF, tags of TIFF), the table also has
micrometres, and what is too small for a nucleus is dropped by its true size. docs/prediction.md explains each column.

A second run into the same folder replaces the results of its own images and keeps all others."""


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='mmgfnuc predict', description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', nargs='+', help='images, folders, or glob patterns')
    parser.add_argument('--checkpoint', required=True, help='.pth file written by `mmgfnuc train`')
    parser.add_argument('--out', required=True, metavar='DIR', help='output folder')
    parser.add_argument(
        '--config', help="config instead of the checkpoint's own; it may import parts of your own (custom_imports)"
    )
    parser.add_argument('--cfg-options', action=ConfigOptions, help='override the config')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    parser.add_argument(
        '--mpp', type=positive_float, help='micrometres per pixel of all images (default: what each file states)'
    )
    return parser.parse_args(arguments)


def changed_config(args: argparse.Namespace) -> Any:
    """Read the config to predict with, and check it; None leaves the checkpoint's own as it is."""
    if not (args.config or args.cfg_options):
        return None
    from mmgfnuc.engine.config import load_config
    from mmgfnuc.engine.settings import check_model

    config = load_config(args.config or args.checkpoint, args.cfg_options)
    check_model(config)
    return config


def main(arguments: Sequence[str]) -> None:
    """Predict as the arguments say."""
    args = parse_args(arguments)
    from mmgfnuc.inference import Predictor
    from mmgfnuc.inference.folder import find_images, segment_images

    if args.mpp is not None:
        check_mpp(args.mpp, '--mpp')
    images = find_images(args.input)
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise UserError(f"--out '{args.out}' is not a folder; name one")
    # As Ctrl-C does, a polite request to end leaves complete tables.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    predictor = Predictor(args.checkpoint, changed_config(args), device=args.device, mpp=args.mpp)
    segment_images(predictor, images, args.out)
