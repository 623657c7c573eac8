"""Time the whole way from image files to tables of nuclei against the bare network. Prints one JSON line."""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import cv2
import numpy as np
import torch
from measure import MEGABYTE, in_fresh_process, memory, paired_ratio, positive, seconds
from record import report
from torch import Tensor

from mmgfnuc.datasets.images import read_image
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.inference import Predictor
from mmgfnuc.inference.folder import find_images
from mmgfnuc.inference.ready import DEFAULT
from mmgfnuc.inference.side_by_side import side_by_side

EPILOG = """examples:
  python benchmarks/predict.py --images data/nuinsseg_more/images --mpp 0.18 --out docs/results/predict.json
  python benchmarks/predict.py --images slide_regions --mpp 0.5 --model model.pth --threads 1

The line:
  megapixels_per_s   of the images, the whole way: image file -> network -> nuclei -> table; on this machine only
  way_vs_network     time of the whole way over that of the bare network, which has all threads for a tile after the
                     other: median of pairs of passes, in turn
  way_vs_networks    the same, where the network too sees several tiles at a time, each in a thread
  one_by_one_vs_network   the same as the first, where images go the whole way one after the other, as in Python
  share_read, share_network, share_postprocess, share_measure   of the time of an image alone; post-processing is all
                     that the predictor does besides the network: it scales the image, blends tiles, scales the maps,
                     divides them into nuclei, and checks the image
  network_pixels     pixels that the network sees over those of the scaled images: above 1 by the overlap of tiles, and
                     where images are continued to the size of a tile
  peak_memory_mb     of a process that goes the whole way once, libraries and weights included

The whole way is that of `mmgfnuc predict` without the files that it writes: several images at a time. The bare network
is the model without anything around it, on the very tiles that the predictor gives it."""


class Pass:
    """Goes the whole way once with some images, and times its stages.

    Attributes:
        times: seconds by stage.
        tiles: what the network was given.
        nuclei: how many were found.
    """

    def __init__(self, predictor: Predictor, paths: list[Path]) -> None:
        self.times = dict.fromkeys(('read', 'network', 'postprocess', 'measure'), 0.0)
        self.tiles: list[Tensor] = []
        self.nuclei = 0
        network = predictor.model.encode_decode
        predictor.model.encode_decode = partial(self._network, network)
        for path in paths:
            image = self._timed('read', partial(read_image, path))
            nuclei = self._timed('postprocess', partial(predictor, image))
            self.nuclei += len(self._timed('measure', lambda nuclei=nuclei: nuclei.table))
        predictor.model.encode_decode = network
        self.times['postprocess'] -= self.times['network']

    def shares(self) -> dict[str, float]:
        """Part of the whole time by stage."""
        whole = sum(self.times.values())
        return {stage: spent / whole for stage, spent in self.times.items()}

    def _network(self, network: Callable[[Tensor], Tensor], tile: Tensor) -> Tensor:
        self.tiles.append(tile)
        return self._timed('network', partial(network, tile))

    def _timed(self, stage: str, action: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = action()
        self.times[stage] += time.perf_counter() - start
        return result


def go_all_the_way(predictor: Predictor, paths: list[Path]) -> None:
    """Make a table of the nuclei of each image, as `mmgfnuc predict` does."""
    for _ in side_by_side(predictor, lambda own, path: own(path).table, [(path,) for path in paths]):
        pass


@torch.inference_mode()
def run_network(predictor: Predictor, tiles: list[Tensor]) -> None:
    """Run the network alone, a tile after the other."""
    for tile in tiles:
        predictor.model.encode_decode(tile)


def run_networks(predictor: Predictor, tiles: list[Tensor]) -> None:
    """Run the network alone, on as many tiles at a time as the whole way."""
    for _ in side_by_side(predictor, run_network, [([tile],) for tile in tiles]):
        pass


def one_by_one(predictor: Predictor, paths: list[Path]) -> None:
    """Make a table of the nuclei of each image by a call of the predictor."""
    for path in paths:
        predictor(path).table  # noqa: B018 - it is made when it is asked for


def measure(model: str, mpp: float, paths: list[Path], pairs: int) -> dict[str, Any]:
    """Time the whole way and the network in turn, and the stages of the way."""
    predictor = Predictor(model, device='cpu', mpp=mpp)
    passes = [Pass(predictor, paths) for _ in range(pairs)]
    first = passes[0]
    times: list[float] = []

    def whole_way() -> float:
        times.append(seconds(partial(go_all_the_way, predictor, paths), 'cpu'))
        return times[-1]

    def timed(action: Callable[..., None], *given: Any) -> Callable[[], float]:
        return partial(seconds, partial(action, *given), 'cpu')

    network = timed(run_network, predictor, first.tiles)
    ratio = paired_ratio(network, whole_way, pairs)
    alike = paired_ratio(timed(run_networks, predictor, first.tiles), timed(go_all_the_way, predictor, paths), pairs)
    singly = paired_ratio(network, timed(one_by_one, predictor, paths), pairs)
    sizes = [read_image(path).shape[:2] for path in paths]
    pixels = sum(height * width for height, width in sizes)
    return {
        'megapixels_per_s': round(pixels / 10**6 / median(times[1:]), 2),
        'way_vs_network': round(ratio, 3),
        'way_vs_networks': round(alike, 3),
        'one_by_one_vs_network': round(singly, 3),
        **{f'share_{stage}': round(median(each.shares()[stage] for each in passes), 3) for stage in first.times},
        'network_pixels': round(
            sum(tile[0, 0].numel() for tile in first.tiles) / pixels / predictor.scale_of(mpp) ** 2, 2
        ),
        'nuclei_per_megapixel': round(first.nuclei / pixels * 10**6),
    }


def peak(model: str, mpp: float, paths: list[Path], threads: int) -> dict[str, int]:
    """Largest memory of this process after it went the whole way once."""
    use_threads(threads)
    go_all_the_way(Predictor(model, device='cpu', mpp=mpp), paths)
    return {'peak_memory_mb': round(memory('cpu', peak=True) / MEGABYTE)}


def use_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def spread(paths: list[Path], count: int) -> list[Path]:
    """Choose at most so many, evenly."""
    return [paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', nargs='+', required=True, help='files, folders, or patterns in quotes')
    parser.add_argument('--mpp', type=float, required=True, help='micrometres per pixel of the images')
    parser.add_argument('--model', default=DEFAULT, help='as mmgfnuc predict takes it (%(default)s)')
    parser.add_argument('--count', type=positive, default=16, help='images, evenly chosen (%(default)s)')
    parser.add_argument('--pairs', type=positive, default=7, help='pairs of passes (%(default)s)')
    parser.add_argument('--threads', type=positive, default=2, help='of PyTorch and OpenCV (%(default)s)')
    parser.add_argument('--out', type=Path, help='also write a record')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    use_threads(args.threads)
    paths = spread(find_images(args.images), args.count)
    row = measure(args.model, args.mpp, paths, args.pairs)
    row |= in_fresh_process(peak, args.model, args.mpp, paths, args.threads)
    size = round(mean(side for path in paths for side in read_image(path).shape[:2]))
    settings = {key: getattr(args, key) for key in ('model', 'mpp', 'pairs', 'threads')}
    settings |= {'size': size, 'batch': 1, 'images': len(paths), 'device': 'cpu'}
    report('predict', row, settings, args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
