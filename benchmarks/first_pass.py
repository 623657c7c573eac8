"""Count how near the pixel size that a first pass assumes is to the true one. Prints one JSON line."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import positive
from tqdm import tqdm

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.resampling import resample_image
from mmgfnuc.engine.cli import positive_float, run_cli
from mmgfnuc.errors import UserError
from mmgfnuc.inference import Predictor

EPILOG = """examples:
  python benchmarks/first_pass.py MODEL --data data/nuinsseg_more --every 10

The line, for each size of a pixel to which the images are resampled: of how many a first pass assumes a size, and of
how many this is at most 1.25 and 1.5 times too large or too small. Images that state no size are taken for those of the
model's training. Scores at other sizes of a pixel: mmgfnuc score."""
SIZES = (0.25, 0.5, 1.0)
WITHIN = (1.25, 1.5)


def measure(predictor: Predictor, dataset: NucleiDataset, sizes: Sequence[float], every: int) -> list[dict[str, Any]]:
    """Look at each image at each size of a pixel."""
    trained = predictor.preprocessing.mpp
    if trained is None:
        raise UserError('the model states no pixel size (preprocessing.mpp); publish it with one')
    rows = []
    for mpp in tqdm(sizes, desc='look', unit='size', leave=False):
        errors: list[float | None] = []
        for index in range(0, len(dataset), every):
            sample = dataset[index]
            image, _ = resample_image(sample['img'], sample['instance_map'], sample['mpp'] or trained, mpp)
            assumed = predictor.pixel_size(image).mpp
            errors.append(None if assumed is None else abs(math.log(assumed / mpp)))
        known = [error for error in errors if error is not None]
        near = {f'within_{most}': sum(error < math.log(most) for error in known) for most in WITHIN}
        rows.append({'mpp': mpp, 'images': len(errors), 'assumed': len(known), **near})
    return rows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='as `mmgfnuc predict` takes it')
    parser.add_argument('--data', required=True, type=Path, help='data set in the canonical form')
    parser.add_argument('--sizes', type=positive_float, nargs='+', default=SIZES, help='micrometres per pixel')
    parser.add_argument('--every', type=positive, default=1, help='image that is taken (%(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    predictor = Predictor(args.model, device='cpu')
    print(json.dumps(measure(predictor, NucleiDataset(args.data), args.sizes, args.every)))


if __name__ == '__main__':
    sys.exit(run_cli(main))
