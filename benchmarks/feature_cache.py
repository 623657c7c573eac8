"""Time training with a frozen encoder whose features are kept on disk. Prints one JSON line."""

import argparse
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import paired_ratio, positive, seconds, segmentor_loss
from record import report
from torch import Tensor, nn

from mmgfnuc.engine.cli import run_cli
from mmgfnuc.errors import UserError
from mmgfnuc.models.create import create_model, list_foundation, list_fusions
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.models.foundation.cache import DTYPES

EPILOG = """examples:
  python benchmarks/feature_cache.py --out docs/results/feature_cache.json
  python benchmarks/feature_cache.py --width 64 --dtype float16
  python benchmarks/feature_cache.py --device cuda --images 64 --batch 16

The line:
  epoch_speedup   time of an epoch that computes the features over that of one that reads them all from the cache
  step_vs_unet    time of the latter over that of the same U-Net without a foundation encoder
  mb_per_image    size of a cached image on disk

Both are medians of pairs of epochs, in turn in one process. A step is forward, loss, backward, Adam, on random
images of 256x256 pixels; the encoder has random weights. The files were just written and are likely read from memory,
not from the disk itself."""

SIZE = 256
LEVELS = 5


class Training:
    """A network in training, and the batches of an epoch."""

    def __init__(self, model: nn.Module, batches: list[tuple[Tensor, Tensor]], device: str) -> None:
        self.model = model.to(device).train()
        self.batches, self.device = batches, device
        self.optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)

    def epoch(self) -> float:
        """Return the seconds of one pass over the batches."""
        return seconds(self._steps, self.device)

    def _steps(self) -> None:
        for images, labels in self.batches:
            self.optimizer.zero_grad()
            segmentor_loss(self.model, images, labels).backward()
            self.optimizer.step()


def measure(args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Compare an epoch with the cache to one without it, and to one without an encoder."""
    shape = (args.batch, SIZE, SIZE)
    batches = [
        (torch.rand(args.batch, 3, SIZE, SIZE, device=args.device), torch.randint(0, 2, shape, device=args.device))
        for _ in range(args.images // args.batch)
    ]
    encoder = dict(type=foundation_encoder, name=args.foundation, weights='random')
    build = partial(
        create_model, parts={'backbone': {'widths': tuple(args.width * 2**level for level in range(LEVELS))}}
    )

    def training(**settings: Any) -> Training:
        torch.manual_seed(0)  # so that all have the same encoder
        return Training(build(**settings), batches, args.device)

    cached = training(foundation=encoder | {'cache': dict(folder=folder, dtype=args.dtype)}, fusion=args.fusion)
    cached.epoch()
    cache = cached.model.foundation.cache
    filled = cache.misses
    speedup = paired_ratio(cached.epoch, training(foundation=encoder, fusion=args.fusion).epoch, args.pairs)
    step_vs_unet = 1 / paired_ratio(cached.epoch, training().epoch, 5 * args.pairs)
    if cache.misses > filled:
        raise UserError(f'{cache.misses - filled} images were not found in the cache: is the disk full?')
    return {
        'epoch_speedup': round(speedup, 2),
        'step_vs_unet': round(step_vs_unet, 3),
        'mb_per_image': round(cache.size / filled / 10**6, 2),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--foundation', choices=list_foundation(), default='sam-vit-b', metavar='NAME', help='encoder (%(default)s)'
    )
    fusions = [name for name in list_fusions() if name not in ('none', 'shuffled-context-image')]
    parser.add_argument('--fusion', choices=fusions, default='paper', help='(%(default)s)')
    parser.add_argument('--width', type=positive, default=32, help='of the first level of the U-Net (%(default)s)')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='of the files (%(default)s)')
    parser.add_argument('--images', type=positive, default=4, help='in an epoch (%(default)s)')
    parser.add_argument('--batch', type=positive, default=2, help='images in a batch (%(default)s)')
    parser.add_argument('--pairs', type=positive, default=3, help='pairs of epochs (%(default)s)')
    threads = torch.get_num_threads()
    parser.add_argument('--threads', type=positive, default=threads, help='of the CPU (here %(default)s)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu', help='(%(default)s)')
    parser.add_argument('--out', type=Path, help='also write a record')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: PyTorch sees no GPU here; leave it out to measure on the CPU')
    if args.images % args.batch:
        raise UserError(f'--images {args.images} is not a multiple of --batch {args.batch}; change one of them')
    torch.set_num_threads(args.threads)
    warnings.filterwarnings('ignore', message='.*RANDOM weights')
    with tempfile.TemporaryDirectory() as folder:
        row = measure(args, folder)
    settings = {key: value for key, value in vars(args).items() if key != 'out'} | {'size': SIZE}
    settings['files'] = settings.pop('dtype')
    report('feature_cache', row, settings, args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
