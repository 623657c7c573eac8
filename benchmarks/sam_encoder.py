"""Time SAM's image encoder against segment-anything's own, with the same weights, in one run. Prints one JSON line."""

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import median

import torch
from measure import MEGABYTE, in_fresh_process, memory, paired_ratio, positive, seconds
from record import report
from torch import Tensor, nn

from mmgfnuc.engine.cli import run_cli
from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.models.foundation.sam import ARCHITECTURES

EPILOG = """examples:
  python benchmarks/sam_encoder.py --out docs/results/sam_encoder.json
  python benchmarks/sam_encoder.py --arch vit_h --device cuda --batch 4 --pairs 20

The line:
  speedup_fp32, speedup_bf16   time of segment-anything's encoder in float32 over that of ours in float32, and
                               under bfloat16 autocast: medians of pairs of runs, in turn in one process
  speedup_bf16_both            the same with both under bfloat16 autocast
  max_abs_diff                 largest difference of the two embeddings in float32
  max_abs_diff_bf16            of ours under bfloat16 autocast from segment-anything in float32
  embedding_std                standard deviation of the embedding, to judge the differences by
  position_effect              standard deviation of what the relative positions change in the embedding
  images_per_s_...             medians; on this machine only
  peak_memory_ratio            memory that a forward pass adds at most, over what segment-anything's adds; each in a
                               process of its own (on a CPU resident memory, on a GPU that of tensors); in MB as well

Both encoders have the same random weights, such that attention is far from uniform and positions matter. Images have
the native 1024x1024 pixels."""

SIDE = 1024


def build_official(arch: str) -> nn.Module:
    """Build segment-anything's own encoder, every parameter of it noise."""
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    encoder = sam_model_registry[arch]().image_encoder
    for name, parameter in encoder.named_parameters():
        # Such that attention is far from uniform, and the relative positions matter: a mistake in them would show.
        nn.init.trunc_normal_(parameter, std=0.5 if 'rel_pos' in name else 0.05)
        if parameter.dim() == 1 and name.endswith('weight'):  # the scale of a norm
            nn.init.ones_(parameter)
    return encoder.eval()


def build_own(arch: str) -> nn.Module:
    """Build ours, without the normalisation of images, which segment-anything's encoder leaves to others."""
    encoder = foundation_encoder(f'sam-{arch.replace("_", "-")}', weights='random').eval()
    encoder.normalize = nn.Identity()
    return encoder


BUILDERS = {'segment-anything': build_official, 'mmgfnuc': build_own}


def forward(encoder: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Encode."""
    with torch.inference_mode(), torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        embedding = encoder(images)
    return embedding[0] if isinstance(embedding, tuple) else embedding


class Timer:
    """Seconds of a forward pass; it remembers them all."""

    def __init__(self, encoder: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.action = partial(forward, encoder, images, dtype)
        self.images = images
        self.measured: list[float] = []

    def __call__(self) -> float:
        """Run once."""
        self.measured.append(seconds(self.action, self.images.device.type))
        return self.measured[-1]

    def images_per_s(self) -> float:
        """Return the median over all runs but the first."""
        return round(len(self.images) / median(self.measured[1:]), 3)


@torch.no_grad()
def without_positions(official: nn.Module) -> nn.Module:
    """Take the relative positions out, to see how much they matter."""
    for name, parameter in official.named_parameters():
        if 'rel_pos' in name:
            parameter.zero_()
    return official


def added_memory(name: str, settings: argparse.Namespace) -> dict[str, int]:
    """Bytes that one forward pass adds at most; call it in a fresh process."""
    torch.set_num_threads(settings.threads)
    encoder = BUILDERS[name](settings.arch).to(settings.device)
    images = torch.randn(settings.batch, 3, SIDE, SIDE, device=settings.device)
    before = memory(settings.device)
    forward(encoder, images)
    return {'bytes': memory(settings.device, peak=True) - before}


def compare(name: str, settings: argparse.Namespace) -> dict[str, float]:
    """Speed and differences, of two encoders in one process."""
    torch.set_num_threads(settings.threads)
    official, own = build_official(settings.arch), build_own(settings.arch)
    own.network.load_state_dict(official.state_dict())
    official, own = official.to(settings.device), own.to(settings.device)
    images = torch.randn(settings.batch, 3, SIDE, SIDE, device=settings.device)
    expected = forward(official, images)
    bf16 = torch.bfloat16

    def speedup(fast: Timer, slow: Timer) -> float:
        return round(paired_ratio(fast, slow, settings.pairs), 2)

    own_fp32, own_bf16 = Timer(own, images), Timer(own, images, bf16)
    official_fp32, official_bf16 = Timer(official, images), Timer(official, images, bf16)
    return {
        'speedup_fp32': speedup(own_fp32, official_fp32),
        'speedup_bf16': speedup(own_bf16, official_fp32),
        'speedup_bf16_both': speedup(own_bf16, official_bf16),
        'images_per_s_fp32': own_fp32.images_per_s(),
        'images_per_s_bf16': own_bf16.images_per_s(),
        'images_per_s_official_fp32': official_fp32.images_per_s(),
        'images_per_s_official_bf16': official_bf16.images_per_s(),
        'max_abs_diff': (forward(own, images) - expected).abs().max().item(),
        'max_abs_diff_bf16': (forward(own, images, bf16) - expected).abs().max().item(),
        'embedding_std': expected.std().item(),
        'position_effect': (forward(without_positions(official), images) - expected).std().item(),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arch', choices=sorted(ARCHITECTURES), default='vit_b', help='(%(default)s)')
    parser.add_argument('--batch', type=positive, default=1, help='images in a batch (%(default)s)')
    parser.add_argument('--pairs', type=positive, default=5, help='pairs of runs (%(default)s)')
    threads = torch.get_num_threads()
    parser.add_argument('--threads', type=positive, default=threads, help='of the CPU (here %(default)s)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu', help='(%(default)s)')
    parser.add_argument('--out', type=Path, help='also write a record')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: PyTorch sees no GPU here; leave it out to measure on the CPU')
    added = {name: in_fresh_process(added_memory, name, args)['bytes'] for name in BUILDERS}
    row = in_fresh_process(compare, 'both', args)
    row |= {
        'peak_memory_ratio': round(added['mmgfnuc'] / added['segment-anything'], 3),
        'peak_memory_mb': round(added['mmgfnuc'] / MEGABYTE),
        'peak_memory_official_mb': round(added['segment-anything'] / MEGABYTE),
    }
    settings = {key: value for key, value in vars(args).items() if key != 'out'} | {'size': SIDE}
    report('sam_encoder', {'arch': args.arch, **row}, settings, args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
