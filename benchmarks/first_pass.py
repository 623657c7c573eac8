"""Count how near the pixel size that a first pass assumes is to the true one. Prints one JSON line."""

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import positive
from tqdm import tqdm

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.datasets.resampling import resample_image
from mmgfnuc.engine.cli import positive_float, run_cli
from mmgfnuc.errors import UserError
from mmgfnuc.inference import Predictor

EPILOG = """examples:
  python benchmarks/first_pass.py MODEL --data data/nuinsseg_more --every 10
  python benchmarks/first_pass.py MODEL --data data/nuinsseg_more --mosaic 3

The line, for each size of a pixel to which the images are resampled: of how many a first pass assumes a size, and of
how many this is at most 1.25 and 1.5 times too large or too small. Images that state no size are taken for those of the
model's training. With --mosaic images of one group are laid side by side, as the first pass takes parts of large images
alone. Scores at other sizes of a pixel: mmgfnuc score."""
SIZES = (0.25, 0.5, 1.0)
WITHIN = (1.25, 1.5)


def mosaics(dataset: NucleiDataset, trained: float, every: int, side: int) -> list[tuple[RGBImage, float]]:
    """Lay images of one group and size of a pixel side by side, `side` in a row, as many rows; the rest is left out.

    Returns:
        images and the micrometres per pixel of each.
    """
    alike = defaultdict(list)
    for index in range(0, len(dataset), every):
        sample = dataset[index]
        alike[sample['group'], sample['mpp'] or trained, sample['img'].shape].append(sample['img'])
    return [
        (np.vstack([np.hstack(images[row : row + side]) for row in range(start, start + side**2, side)]), mpp)
        for (_, mpp, _), images in alike.items()
        for start in range(0, len(images) - side**2 + 1, side**2)
    ]


def measure(predictor: Predictor, dataset: NucleiDataset, sizes: Sequence[float], every: int, side: int) -> list[dict]:
    """Look at each image, or mosaic of so many a side, at each size of a pixel."""
    trained = predictor.preprocessing.mpp
    if trained is None:
        raise UserError('the model states no pixel size (preprocessing.mpp); publish it with one')
    rows, images = [], mosaics(dataset, trained, every, side)
    if not images:
        raise UserError(f'no group has {side**2} images of one shape; take a smaller --mosaic or --every')
    for mpp in tqdm(sizes, desc='look', unit='size', leave=False):
        errors: list[float | None] = []
        for image, own in images:
            resampled, _ = resample_image(image, np.zeros(image.shape[:2], np.int32), own, mpp)
            assumed = predictor.pixel_size(resampled).mpp
            errors.append(None if assumed is None else abs(math.log(assumed / mpp)))
        known = [error for error in errors if error is not None]
        near = {f'within_{most}': sum(error < math.log(most) for error in known) for most in WITHIN}
        rows.append({'mpp': mpp, 'images': len(images), 'assumed': len(known), **near})
    return rows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='as `mmgfnuc predict` takes it')
    parser.add_argument('--data', required=True, type=Path, help='data set in the canonical form')
    parser.add_argument('--sizes', type=positive_float, nargs='+', default=SIZES, help='micrometres per pixel')
    parser.add_argument('--every', type=positive, default=1, help='image that is taken (%(default)s)')
    parser.add_argument(
        '--mosaic', type=positive, default=1, metavar='N', help='N x N images of a group make one image (%(default)s)'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    predictor = Predictor(args.model, device='cpu')
    print(json.dumps(measure(predictor, NucleiDataset(args.data), args.sizes, args.every, args.mosaic)))


if __name__ == '__main__':
    sys.exit(run_cli(main))
