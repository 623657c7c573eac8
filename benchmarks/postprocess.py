"""Time the post-processors against the plain recipe of scikit-image. Prints one JSON line."""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median

import cv2
import numpy as np
from measure import paired_ratio, positive, seconds
from numpy.typing import NDArray
from record import report
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from mmgfnuc.datasets.synthetic import MPP, render_tile
from mmgfnuc.datasets.transforms.instance_targets import BoundaryTarget, DistanceTarget, HoverTarget
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.evaluation.functional import bpq, contingency_table, instance_counts
from mmgfnuc.postprocess import (
    BoundaryInstances,
    DistanceInstances,
    HoverInstances,
    InstancePostProcessor,
    WatershedInstances,
)

EPILOG = """examples:
  python benchmarks/postprocess.py --threads 1 --out docs/results/postprocess.json
  python benchmarks/postprocess.py --size 512 --images 8 --pairs 11

The line, for each post-processor:
  speedup_vs_skimage   time of the plain recipe over that of the post-processor: median of pairs of runs, in turn
  pq, pq_skimage       panoptic quality of both, mean over the images
  megapixels_per_s, nuclei_per_s   of the post-processor; on this machine only
  share_regions, share_mark, share_divide   of its time: foreground, holes and small objects; markers; watershed

The maps are those of synthetic nuclei, blurred by 1.5 pixels and with noise, the same in every run. The plain recipe
takes the foreground alone: SciPy's distance transform of the whole image, scikit-image's peak_local_max (5 pixels
apart, the best of 3, 5 and 8 on these maps) and watershed."""

POST_PROCESSORS = {
    'semantic': WatershedInstances(),
    'distance': DistanceInstances(),
    'hover': HoverInstances(),
    'boundary': BoundaryInstances(),
}
BLUR, NOISE, NOISE_SIZE, PEAK_DISTANCE = 1.5, 0.1, 2.0, 5
Maps = tuple[NDArray[np.float32], ...]


def plain_recipe(foreground: NDArray[np.float32]) -> NDArray[np.int32]:
    """Divide a foreground as scikit-image's gallery does."""
    mask = foreground > 0.5
    depth = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(depth, min_distance=PEAK_DISTANCE, labels=ndimage.label(mask)[0])
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-depth, markers, mask=mask)


def perturb(channel: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blur a map, and add noise: half of its deviation from pixel to pixel, all of it in spots."""
    white, spots = rng.standard_normal((2, *channel.shape), np.float32)
    # The blur divides the deviation of white noise by 2 sqrt(pi) times its own.
    spots = cv2.GaussianBlur(spots, (0, 0), NOISE_SIZE) * (2 * math.sqrt(math.pi) * NOISE_SIZE)
    return cv2.GaussianBlur(channel, (0, 0), BLUR) + NOISE * (spots + white / 2)


def noisy_maps(labels: NDArray[np.int32], rng: np.random.Generator) -> dict[str, Maps]:
    """Make the foreground of an image, and the auxiliary maps that the `mark` of each post-processor takes besides."""
    classes = BoundaryTarget.target(labels)
    inside, boundary = (perturb((classes == index).astype(np.float32), rng) for index in (1, 2))
    foreground = perturb((labels > 0).astype(np.float32), rng)
    hover = np.stack([perturb(channel, rng) for channel in HoverTarget.target(labels)])
    return {
        'semantic': (foreground,),
        'distance': (foreground, perturb(DistanceTarget.target(labels), rng)),
        'hover': (foreground, hover),
        'boundary': (inside + boundary, boundary - inside),
    }


def for_all(action: Callable, inputs: list) -> list:
    """Call an action on each input."""
    return [action(*arguments) for arguments in inputs]


def stage_shares(post_processor: InstancePostProcessor, inputs: list[Maps], repeats: int) -> dict[str, float]:
    """Time the three stages one after the other; return the share of each."""
    regions_inputs = [(foreground, MPP) for foreground, *_ in inputs]
    regions = for_all(post_processor.regions, regions_inputs)
    mark_inputs = [(each > 0, MPP, *auxiliary) for each, (_, *auxiliary) in zip(regions, inputs, strict=True)]
    marks = for_all(post_processor.mark, mark_inputs)
    divide_inputs = [(each, *marked, MPP) for each, marked in zip(regions, marks, strict=True)]
    stages = {'regions': regions_inputs, 'mark': mark_inputs, 'divide': divide_inputs}
    times = {
        name: median(seconds(partial(for_all, getattr(post_processor, name), given), 'cpu') for _ in range(repeats))
        for name, given in stages.items()
    }
    return {f'share_{name}': round(time / sum(times.values()), 3) for name, time in times.items()}


def quality(predictions: list[NDArray], truths: list[NDArray]) -> float:
    """Mean panoptic quality."""
    pairs = zip(predictions, truths, strict=True)
    return round(mean(bpq(instance_counts(contingency_table(prediction, truth))) for prediction, truth in pairs), 4)


def measure(name: str, maps: list[dict[str, Maps]], truths: list[NDArray], pairs: int) -> dict[str, str | float]:
    """Compare one post-processor to the plain recipe on the foreground of `semantic`."""
    post_processor, inputs = POST_PROCESSORS[name], [each[name] for each in maps]
    decode = partial(
        for_all, post_processor.label, [(foreground, MPP, *auxiliary) for foreground, *auxiliary in inputs]
    )
    recipe = partial(for_all, plain_recipe, [each['semantic'] for each in maps])
    times: list[float] = []

    def timed() -> float:
        times.append(seconds(decode, 'cpu'))
        return times[-1]

    speedup = paired_ratio(timed, partial(seconds, recipe, 'cpu'), pairs)
    megapixels, nuclei = sum(truth.size for truth in truths) / 10**6, sum(int(truth.max()) for truth in truths)
    return {
        'post_processor': name,
        'speedup_vs_skimage': round(speedup, 2),
        'pq': quality(decode(), truths),
        'pq_skimage': quality(recipe(), truths),
        'megapixels_per_s': round(megapixels / median(times[1:]), 1),
        'nuclei_per_s': round(nuclei / median(times[1:])),
        **stage_shares(post_processor, inputs, pairs),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', type=positive, default=1024, help='of an image, in pixels (%(default)s)')
    parser.add_argument('--images', type=positive, default=2, help='(%(default)s)')
    parser.add_argument('--pairs', type=positive, default=7, help='pairs of runs (%(default)s)')
    parser.add_argument('--threads', type=positive, default=1, help="of OpenCV (%(default)s); SciPy's has one anyway")
    parser.add_argument('--out', type=Path, help='also write a record')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cv2.setNumThreads(args.threads)
    truths = [render_tile(np.random.default_rng(seed), args.size)[1] for seed in range(args.images)]
    maps = [noisy_maps(truth, np.random.default_rng(seed)) for seed, truth in enumerate(truths)]
    rows = [measure(name, maps, truths, args.pairs) for name in POST_PROCESSORS]
    settings = {key: value for key, value in vars(args).items() if key not in ('out', 'images')}
    settings |= {'batch': args.images, 'device': 'cpu'}
    report('postprocess', rows, settings, args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
