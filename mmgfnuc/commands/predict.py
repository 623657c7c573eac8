"""Find nuclei in images with a trained model: label maps, pictures, outlines for QuPath, a table of measures."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmgfnuc.datasets.pixel_size import check_mpp
from mmgfnuc.engine.cli import ConfigOptions, positive_float
from mmgfnuc.errors import UserError
from mmgfnuc.inference.ready import DEFAULT

EPILOG = """examples:
  mmgfnuc predict slide.png --out results
  mmgfnuc predict scans/*.tif --model work_dirs/own_data/iter_1000.pth --out results --mpp 0.5
  mmgfnuc predict scans/*.tif --out results --cfg-options model.test_cfg.flips=True  # better, 4 x slower

The model carries its config, whose `model.test_cfg` says at which resolution and in which (overlapping) tiles large
images are predicted; nuclei are separated in the whole image afterwards, so that no seam cuts one.

in the output folder, for each image:
  labels/<name>.png       label map, 16 bits: 0 background, 1, 2, 3, ... the nuclei (<name>.tif, 32 bits, above 65,535)
  masks/<name>.png        0 background, 255 nucleus; with nucleus types each has a grey level of its own
  overlays/<name>.png     the image, a contour inside each nucleus, in the colour of its type if the model tells types
  geojson/<name>.geojson  outlines, classes and measures; drag it onto the open image in QuPath
and for all of them:
  nuclei.csv              a line for each nucleus: place, size, shape, staining, confidence
  images.csv              a line for each image: done or failed and why, nuclei, density, median area, share of tissue
  prediction.json         the model and the settings that all of it comes from

Where the size of a pixel is known, the table also has micrometres, and what is too small for a nucleus is dropped by
its true size. docs/prediction.md explains each column.

Run again, the command continues: images that are done are not done again. Results of another model, or of other
settings, are not mixed: name another folder, or start anew with --overwrite."""


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='mmgfnuc predict', description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', nargs='+', help='images, folders, or glob patterns')
    parser.add_argument('--out', required=True, metavar='DIR', help='output folder')
    parser.add_argument(
        '--model',
        default=DEFAULT,
        help='name, folder or hub id of a ready model, or a .pth file written by `mmgfnuc train` '
        '(default: %(default)s, which comes with the package)',
    )
    parser.add_argument('--overwrite', action='store_true', help='remove what an earlier run has written, start anew')
    parser.add_argument(
        '--config', help="config instead of the model's own; it may import parts of your own (custom_imports)"
    )
    parser.add_argument('--cfg-options', action=ConfigOptions, help='override the config')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    parser.add_argument(
        '--mpp', type=positive_float, help='micrometres per pixel of all images (default: what each file states)'
    )
    parser.add_argument(
        '--nucleus-diameter',
        type=positive_float,
        metavar='PIXELS',
        help='of a typical nucleus: gives the pixel size of images that state none (default: a first pass finds it)',
    )
    return parser.parse_args(arguments)


def changed_config(model: str, file: str | None, options: dict[str, Any] | None) -> Any:
    """Read the config to predict with, and check it; None leaves the model's own as it is.

    Args:
        model: name, folder or hub id of a ready model, or a .pth file.
        file: config in the place of its own.
        options: of `--cfg-options`.
    """
    if not (file or options):
        return None
    from mmgfnuc.engine.config import apply_options, load_config
    from mmgfnuc.engine.settings import check_model
    from mmgfnuc.inference.loading import is_checkpoint, read_model

    if file or is_checkpoint(model):
        config = load_config(file or model, options)
    else:
        config = read_model(model).config
        apply_options(config, options or {})
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
    settings = dict(device=args.device, mpp=args.mpp, nucleus_diameter=args.nucleus_diameter)
    predictor = Predictor(args.model, changed_config(args.model, args.config, args.cfg_options), **settings)
    segment_images(predictor, images, args.out, args.overwrite)
