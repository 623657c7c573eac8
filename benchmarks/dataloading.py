"""Time the reading and augmentation of training images. Prints one JSON line."""

import argparse
import random
import sys
import tempfile
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import mmcv.transforms as mm
import numpy as np
import torch
from measure import MEGABYTE, paired_ratio, positive, seconds
from mmengine.config import Config
from PIL import Image
from record import report

from mmgfnuc.datasets import NucleiDataset, RandomHED, RandStainNA, StainNormalize, canonical
from mmgfnuc.datasets.synthetic import dataset_tile
from mmgfnuc.engine.cli import run_cli

with redirect_stdout(None):  # mmseg.datasets prints what it does not find
    import mmseg.datasets.transforms as seg

EPILOG = """examples:
  python benchmarks/dataloading.py --out docs/results/dataloading.json
  python benchmarks/dataloading.py --images 4 --passes 1 --pairs 1 --patches 100

The line:
  images_per_s       of one worker, for presets of configs/_base_/augmentations: from files of 512x512 pixels to tensors
                     of 256x256
  stages             share of the time of reading and of each step of the preset `paper`
  speedup_vs_mmseg   time of MMSegmentation's stock transforms, reading files as datasets are published (Pillow's
                     default PNG), over that of the preset `paper`, reading the prepared set; elastic off
  speedup_same_files the same, both reading the images of the prepared set
  stain_mp_per_s     megapixels per second of each stain transform, on images of 512x512
  open_s             seconds to open a prepared set of --patches images, listed by a split or by the folder (the slower)
  open_mb            memory that the opened set holds
  pass_mb            what one pass over all its images adds

A worker is one process with one thread. Images are synthetic tissue. The files were just written and are likely read
from memory, not from the disk itself. Speedups are medians of pairs of measurements, in turn in one process.

Both sides read an image and a label map, half its size and, in half of the samples, rotate it by up to 180 degrees and
scale it by 0.8 to 1.25; crop to 256x256 and mirror; change gamma in half of the samples, brightness, contrast and
colour in half, equalise (CLAHE) a fifth; and pack tensors. MMSegmentation's steps are LoadImageFromFile,
LoadAnnotations, RandomResize and RandomRotate or Resize, RandomCrop, Pad (where the scaled image is smaller than the
crop), RandomFlip twice, AdjustGamma, CLAHE, PhotoMetricDistortion, PackSegInputs. They carry a semantic map of 8 bits,
ours an instance map of 16 bits and an ignored area; they shrink by linear interpolation, ours by area; ours also turns
by 90 degrees."""

SOURCE, SIZE = 512, 256
PRESETS = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'augmentations'
PLAIN, NORMALISED, STRONG = 'paper', 'normalised', 'strong'
META = {'name': 'tiles', 'classes': canonical.CLASSES, 'licence': '', 'citation': '', 'source': ''}
PATCH = 16


def write_images(root: Path, published: Path, count: int) -> None:
    """Write a set in canonical form, and the same images with semantic maps as ordinary PNG files."""
    for folder in ('images', 'semantic'):
        (published / folder).mkdir(parents=True)
    for index in range(count):
        image, instances, _ = dataset_tile(0, 'train', index, SOURCE)
        canonical.write_sample(root, f'{index:03}', image, instances)
        Image.fromarray(image).save(published / 'images' / f'{index:03}.png')
        Image.fromarray((instances > 0).astype(np.uint8)).save(published / 'semantic' / f'{index:03}.png')
    canonical.write_meta(root, META | {'images': {f'{index:03}': {'group': 's', 'mpp': 0.5} for index in range(count)}})


def write_patches(root: Path, count: int) -> None:
    """Write a set of many tiny images, all alike."""
    rng = np.random.default_rng(0)
    canonical.write_sample(root, '0', rng.integers(0, 256, (PATCH, PATCH, 3), np.uint8), np.eye(PATCH, dtype=np.int32))
    ids = [str(index) for index in range(count)]
    for folder in ('images', 'labels'):
        content = (root / folder / '0.png').read_bytes()
        for patch in ids[1:]:
            (root / folder / f'{patch}.png').write_bytes(content)
    canonical.write_meta(root, META | {'images': {patch: {'group': f'slide_{patch}', 'mpp': 0.5} for patch in ids}})
    canonical.write_split(root, 'default', {'train': ids})


def train_pipeline(preset: str) -> list[dict]:
    """Return the training steps of a preset."""
    return Config.fromfile(PRESETS / f'{preset}.py').train_pipeline


def without_elastic(pipeline: Sequence[dict]) -> list[dict]:
    """Return the steps with the elastic deformation off."""
    return [step | {'elastic': None} if 'elastic' in step else step for step in pipeline]


def mmseg_pipeline() -> list[Callable[[dict], dict]]:
    """Return MMSegmentation's steps for the work of the preset `paper` without elastic deformation."""
    rotated = [
        mm.RandomResize(scale=(SIZE, SIZE), ratio_range=(0.8, 1.25), keep_ratio=True),
        seg.RandomRotate(prob=1.0, degree=180.0, seg_pad_val=255),
    ]
    return [
        mm.LoadImageFromFile(),
        seg.LoadAnnotations(),
        mm.RandomChoice([rotated, [mm.Resize(scale=(SIZE, SIZE))]], prob=[0.5, 0.5]),
        seg.RandomCrop(crop_size=(SIZE, SIZE)),
        mm.Pad(size=(SIZE, SIZE), pad_val=dict(img=0, seg=255)),
        mm.RandomFlip(prob=0.5, direction='horizontal'),
        mm.RandomFlip(prob=0.5, direction='vertical'),
        mm.RandomApply([seg.AdjustGamma(gamma=1.2)], prob=0.5),
        mm.RandomApply([seg.CLAHE(clip_limit=2.0)], prob=0.2),
        mm.RandomApply([seg.PhotoMetricDistortion()], prob=0.5),
        seg.PackSegInputs(),
    ]


def read_all(dataset: NucleiDataset, epoch: int) -> None:
    for index in range(len(dataset)):
        dataset[epoch, index]


def run_mmseg(steps: Sequence[Callable[[dict], dict]], images: Sequence[Path], labels: Path) -> None:
    for path in images:
        results = {
            'img_path': str(path),
            'seg_map_path': str(labels / path.name),
            'reduce_zero_label': False,
            'seg_fields': [],
        }
        for step in steps:
            results = step(results)


def images_per_second(root: Path, preset: str, passes: int) -> float:
    """Return how many images a worker prepares in a second."""
    dataset = NucleiDataset(root, pipeline=train_pipeline(preset))
    read_all(dataset, 0)
    times = [seconds(partial(read_all, dataset, epoch), 'cpu') for epoch in range(1, passes + 1)]
    return passes * len(dataset) / sum(times)


def stage_shares(root: Path, preset: str, passes: int) -> dict[str, float]:
    """Return the share of the time of reading and of each step."""
    dataset = NucleiDataset(root, pipeline=train_pipeline(preset))
    steps, dataset.pipeline = dataset.pipeline, []
    times: defaultdict[str, float] = defaultdict(float)
    for epoch in range(passes):
        for index in range(len(dataset)):
            start = time.perf_counter()
            results = dataset[epoch, index]
            times['read'] += time.perf_counter() - start
            for step in steps:
                start = time.perf_counter()
                results = step(results)
                times[type(step).__name__] += time.perf_counter() - start
    return {name: round(spent / sum(times.values()), 3) for name, spent in times.items()}


def speedup_over_mmseg(root: Path, images: Path, labels: Path, passes: int, pairs: int) -> float:
    """Return the time of MMSegmentation's transforms, which read `images` and `labels`, over ours."""
    dataset = NucleiDataset(root, pipeline=without_elastic(train_pipeline(PLAIN)))
    steps, paths = mmseg_pipeline(), sorted(images.iterdir())
    random.seed(0)
    np.random.seed(0)

    def ours() -> None:
        for epoch in range(passes):
            read_all(dataset, epoch)

    def theirs() -> None:
        for _ in range(passes):
            run_mmseg(steps, paths, labels)

    return paired_ratio(partial(seconds, ours, 'cpu'), partial(seconds, theirs, 'cpu'), pairs)


def stain_throughput(root: Path, passes: int) -> dict[str, float]:
    """Return the megapixels per second of each stain transform."""
    images = [canonical.read_image(path) for path in sorted((root / 'images').iterdir())]
    template = root / 'images' / '000.png'
    steps = {method: StainNormalize(method, template) for method in ('macenko', 'reinhard', 'vahadane')}
    rng = np.random.default_rng(0)

    def run(step: Callable[[dict], dict]) -> None:
        for image in images:
            step({'img': image, 'rng': rng})

    speeds = {}
    for name, step in (steps | {'RandomHED': RandomHED(prob=1), 'RandStainNA': RandStainNA(prob=1)}).items():
        run(step)
        spent = sum(seconds(partial(run, step), 'cpu') for _ in range(passes))
        speeds[name] = round(passes * len(images) * SOURCE**2 / 1e6 / spent, 1)
    return speeds


def opening(root: Path) -> dict[str, float]:
    """Return the time and memory of opening a large set, and the memory that a pass over it adds."""
    times = [
        seconds(partial(NucleiDataset, root, split=split, pipeline=train_pipeline(PLAIN)), 'cpu')
        for split in (None, 'default')
    ]
    tracemalloc.start()
    dataset = NucleiDataset(root)
    opened = tracemalloc.get_traced_memory()[0]
    read_all(dataset, 0)
    added = tracemalloc.get_traced_memory()[0] - opened
    tracemalloc.stop()
    return {
        'open_s': round(max(times), 3),
        'open_mb': round(opened / MEGABYTE, 2),
        'pass_mb': round(added / MEGABYTE, 2),
    }


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure all that the line shows."""
    root, published = folder / 'prepared', folder / 'published'
    write_images(root, published, args.images)
    write_patches(folder / 'patches', args.patches)

    def speedup(images: Path) -> float:
        return round(speedup_over_mmseg(root, images, published / 'semantic', args.passes, args.pairs), 2)

    return {
        'images_per_s': {
            preset: round(images_per_second(root, preset, args.passes), 1) for preset in (PLAIN, NORMALISED, STRONG)
        },
        'stages': stage_shares(root, PLAIN, args.passes),
        'speedup_vs_mmseg': speedup(published / 'images'),
        'speedup_same_files': speedup(root / 'images'),
        'stain_mp_per_s': stain_throughput(root, args.passes),
        **opening(folder / 'patches'),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=positive, default=32, help='of 512x512 pixels (%(default)s)')
    parser.add_argument('--passes', type=positive, default=4, help='over them in each measurement (%(default)s)')
    parser.add_argument('--pairs', type=positive, default=7, help='pairs of measurements (%(default)s)')
    parser.add_argument('--patches', type=positive, default=7900, help='of the set to open (%(default)s)')
    parser.add_argument('--out', type=Path, help='also write a record')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # As in a worker of the data loader.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        row = measure(args, Path(folder))
    settings = {key: value for key, value in vars(args).items() if key != 'out'}
    report('data_loading', row, settings | {'source': SOURCE, 'size': SIZE}, args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
