"""Measure what is lost where a head makes no mistake: decode maps computed from the truth. Prints one JSON line."""

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from record import report
from tqdm import tqdm

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.transforms import BoundaryTarget, DistanceTarget, HoverTarget, Rescale
from mmgfnuc.datasets.transforms.instance_targets import BOUNDARY
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.evaluation.functional import contingency_table, instance_counts, summarise_instances
from mmgfnuc.postprocess import BoundaryInstances, DistanceInstances, HoverInstances, WatershedInstances

EPILOG = """examples:
  python benchmarks/perfect_maps.py --data data/nuinsseg --out docs/results/perfect_maps.json
  python benchmarks/perfect_maps.py --data data/nuinsseg --scale 0.5    at the resolution that the configs work at

The line, for each head: AJI, PQ (means over the images), and how many of its nuclei are false negatives, merged and
split. No model can be better than that, on these images and with the post-processors as they are. At a scale below 1
the maps are those of the label map at that scale, interpolated to the size of the image, as a model's are."""

Maps = tuple[NDArray[np.float32], ...]


def perfect_maps(labels: NDArray[np.int32]) -> dict[str, Maps]:
    """What each post-processor takes, from a label map."""
    foreground = (labels > 0).astype(np.float32)
    boundary = (BoundaryTarget.target(labels) == BOUNDARY).astype(np.float32)
    return {
        'semantic': (foreground,),
        'dual-decoder': (foreground, DistanceTarget.target(labels)),
        'hover': (foreground, HoverTarget.target(labels)),
        'boundary': (foreground, boundary),
    }


POST_PROCESSORS = {
    'semantic': WatershedInstances(),
    'dual-decoder': DistanceInstances(),
    'hover': HoverInstances(),
    'boundary': BoundaryInstances(),
}


def enlarged(channels: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Interpolate a map, or a stack of maps, to a size as the model does."""
    if channels.ndim == 3:
        return np.stack([enlarged(channel, size) for channel in channels])
    return cv2.resize(channels, size[::-1], interpolation=cv2.INTER_LINEAR)


def measure(dataset: NucleiDataset, scale: float) -> list[dict[str, Any]]:
    """Make nuclei of the maps of every image, and score what comes out."""
    counts: dict[str, list] = {name: [] for name in POST_PROCESSORS}
    rescale = Rescale(scale)
    for index in tqdm(range(len(dataset)), desc='post-process', unit='image', leave=False):
        sample = dataset[index]
        truth = sample['instance_map']
        for name, maps in perfect_maps(rescale(sample.copy())['instance_map']).items():
            found = POST_PROCESSORS[name](*(enlarged(channels, truth.shape) for channels in maps), mpp=sample['mpp'])
            counts[name].append(instance_counts(contingency_table(found, truth, sample['ignore_map'])))
    rows = []
    for name, images in counts.items():
        scores = summarise_instances(images)
        kept = ('num_truth', 'false_negatives', 'merged', 'split')
        rows.append(
            {'head': name, **{key: round(scores[key], 4) for key in ('aji', 'pq')}, **{k: scores[k] for k in kept}}
        )
    return rows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', required=True, type=Path, help='data set in the canonical form; all of its images')
    parser.add_argument('--scale', type=float, default=1.0, help='of the maps, above 0 and at most 1 (%(default)s)')
    parser.add_argument('--out', type=Path, help='also write a record')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    dataset = NucleiDataset(args.data)
    rows = measure(dataset, args.scale)
    settings = {'images': len(dataset), 'scale': args.scale, 'data': dataset.metainfo['dataset_name']}
    report('perfect_maps', rows, settings, args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
