"""Time every U-Net of the zoo in one run: training step, inference, peak memory. Prints one JSON line."""

import argparse
import itertools
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measure import MEGABYTE, in_fresh_process, memory, paired_ratio, positive, seconds, segmentor_loss
from record import report
from torch import Tensor, nn

from mmgfnuc.engine.cli import run_cli
from mmgfnuc.errors import UserError
from mmgfnuc.models.complexity import count_macs, count_parameters, on_meta
from mmgfnuc.models.create import create_model, list_unets
from mmgfnuc.models.losses import DiceFocalLoss
from mmgfnuc.presets import shipped_presets

EPILOG = """examples:
  python benchmarks/unets.py --out docs/results/unets.json         every U-Net; then `make table`
  python benchmarks/unets.py --only unet                           one, and how it compares (below)
  python benchmarks/unets.py --device cuda --batch 16 --repeats 20 --dtype bf16

The line is a list with one row for each U-Net:
  unet                               name, as create_model(unet=...) takes it
  train_ms, infer_ms                 median time of a batch; a training step is forward, loss, backward, Adam
  train_images_per_s, infer_images_per_s
  peak_mb                            most memory that training held: weights, gradients, Adam's state, activations
  parameters, levels, source         as built; levels of the local pyramid; the preset's first comment
  macs                               multiply-adds of one 256x256 image: convolutions, matrix products, attention

Each U-Net is measured in a process of its own. Times are of this machine at this moment: compare rows of one line only.

--only unet adds ratios of speed, training and (key ending in _infer) inference, above 1 where the U-Net here is
faster, each the median of pairs of runs, in turn in one process:
  ratio_vs_mmseg                     images/s over those of MMSegmentation's UNet made the same network
  ratio_vs_smp                       images/s x MACs over those of segmentation-models-pytorch's Unet with vgg13_bn
  ratio_channels_last                as built, weights and images in this layout, over the plain layout
  ratio_bf16                         under bfloat16 autocast over float32
  ratio_bf16_channels_last           with both over with neither"""

MACS_SIZE = 256
# Sizes that the networks compared with take: the deepest stride of the smp one is 32, and there a single image must
# leave the batch norm more than one pixel.
COMPARED_MULTIPLE, COMPARED_MIN = 32, 64


@dataclass(frozen=True)
class Settings:
    """How everything in one run is measured; sizes in pixels."""

    size: int
    batch: int
    repeats: int
    pairs: int
    threads: int
    device: str
    dtype: str
    plain_layout: bool


def logits_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The same loss of a plain network."""
    return DiceFocalLoss()(model(images), labels)


class Candidate:
    """A network on random images, ready for training steps and inference."""

    def __init__(self, model: nn.Module, settings: Settings, loss: Callable[..., Tensor] = segmentor_loss) -> None:
        shape = (settings.batch, 3, settings.size, settings.size)
        self.settings = settings
        self.model = model.to(settings.device)
        if settings.plain_layout:
            model.to(memory_format=torch.contiguous_format)
            getattr(model, 'backbone', model).memory_format = torch.contiguous_format
        self.images = torch.rand(shape, device=settings.device)
        self.labels = torch.randint(0, 2, (settings.batch, *shape[2:]), device=settings.device)
        self.loss = loss
        self.optimizer = torch.optim.Adam(model.parameters())

    def train(self) -> float:
        """Return the seconds of a training step."""
        self.model.train()
        return seconds(self._step, self.settings.device)

    def infer(self) -> float:
        """Return the seconds of an inference."""
        self.model.eval()
        return seconds(self._predict, self.settings.device)

    def _step(self) -> None:
        self.optimizer.zero_grad()
        with self._autocast():
            loss = self.loss(self.model, self.images, self.labels)
        loss.backward()
        self.optimizer.step()

    def _predict(self) -> None:
        with torch.inference_mode(), self._autocast():
            self.model(self.images)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.settings.device, torch.bfloat16, enabled=self.settings.dtype == 'bf16')


def read_source(name: str) -> str:
    """Return the first comment of a preset, which says what the network is and names its paper."""
    lines = shipped_presets('unets')[name].read_text('utf-8').splitlines()
    return ' '.join(line.lstrip('# ') for line in itertools.takewhile(lambda line: line.startswith('#'), lines))


def describe(name: str) -> dict[str, Any]:
    """Return what does not depend on the machine."""
    model = on_meta(lambda: create_model(name))
    return {
        'parameters': count_parameters(model)[0],
        'macs': count_macs(model, MACS_SIZE),
        'levels': len(model.backbone.out_channels),
        'source': read_source(name),
    }


def median_ms(run: Callable[[], float], repeats: int) -> float:
    """Median time of a run, after one that also allocates and compiles."""
    run()
    return round(1000 * median(run() for _ in range(repeats)), 2)


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """Return the row of one U-Net; call it in a fresh process, so that peak memory is its own."""
    torch.manual_seed(0)
    torch.set_num_threads(settings.threads)
    described = describe(name)
    before = memory(settings.device)
    candidate = Candidate(create_model(name), settings)
    train_ms = median_ms(candidate.train, settings.repeats)
    peak = memory(settings.device, peak=True) - before
    infer_ms = median_ms(candidate.infer, settings.repeats)
    return {
        'unet': name,
        'train_ms': train_ms,
        'infer_ms': infer_ms,
        'train_images_per_s': round(1000 * settings.batch / train_ms, 2),
        'infer_images_per_s': round(1000 * settings.batch / infer_ms, 2),
        'peak_mb': round(peak / MEGABYTE),
        **described,
    }


def build_unet() -> nn.Module:
    """The preset that is compared."""
    return create_model('unet')


def build_mmseg(base_channels: int = 64) -> nn.Module:
    """MMSegmentation's UNet under a 1x1 classifier, made the network that the preset `unet` is.

    Its up-sampling follows the transposed convolution with a norm and an activation. The original U-Net has none: they
    are taken out, which makes it faster.
    """
    head = dict(type='FCNHead', in_channels=base_channels, channels=base_channels, num_classes=2, in_index=4)
    # Here, because mmgfnuc, which silences what this import says, must be imported before it.
    from mmseg.models import EncoderDecoder

    model = EncoderDecoder(
        backbone=dict(
            type='UNet', base_channels=base_channels, upsample_cfg=dict(type='mmseg.DeconvModule', kernel_size=2)
        ),
        decode_head=dict(
            **head,
            num_convs=0,
            concat_input=False,
            dropout_ratio=0,
            loss_decode=dict(type='mmgfnuc.DiceFocalLoss'),
        ),
        test_cfg=dict(mode='whole'),
    )
    for block in model.backbone.decoder:
        block.upsample = block.upsample.deconv_upsamping[0]
    return model


def build_smp() -> nn.Module:
    """segmentation-models-pytorch's Unet on VGG-13: the nearest that it has to a plain U-Net."""
    import segmentation_models_pytorch

    return segmentation_models_pytorch.Unet('vgg13_bn', encoder_weights=None, classes=2)


RIVALS = {'ratio_vs_mmseg': (build_mmseg, segmentor_loss), 'ratio_vs_smp': (build_smp, logits_loss)}
PLAIN: dict[str, Any] = {'plain_layout': True, 'dtype': 'fp32'}
VARIATIONS: dict[str, dict[str, Any]] = {
    'ratio_channels_last': {'plain_layout': False},
    'ratio_bf16': {'dtype': 'bf16'},
    'ratio_bf16_channels_last': {'plain_layout': False, 'dtype': 'bf16'},
}


def compare(key: str, settings: Settings) -> dict[str, float]:
    """Return the ratios of one comparison, of training and of inference."""
    torch.manual_seed(0)
    torch.set_num_threads(settings.threads)
    if key in RIVALS:
        build, loss = RIVALS[key]
        own, other = Candidate(build_unet(), settings), Candidate(build(), settings, loss)
        work = count_macs(on_meta(build_unet), settings.size) / count_macs(on_meta(build), settings.size)
    else:
        varied = VARIATIONS[key]
        own = Candidate(build_unet(), replace(settings, **varied))
        other = Candidate(build_unet(), replace(settings, **{name: PLAIN[name] for name in varied}))
        work = 1.0
    return {
        key: round(work * paired_ratio(own.train, other.train, settings.pairs), 3),
        f'{key}_infer': round(work * paired_ratio(own.infer, other.infer, settings.pairs), 3),
    }


def run_tasks(only: str | None, settings: Settings) -> list[dict[str, Any]]:
    """Measure the U-Nets, then what `unet` alone is compared with; progress goes to stderr."""
    names = [only] if only else list_unets()
    comparisons = [*RIVALS, *VARIATIONS] if only == 'unet' else []
    total = len(names) + len(comparisons)
    rows = []
    for number, name in enumerate(names, start=1):
        row = in_fresh_process(measure, name, settings)
        rows.append(row)
        report = f'train {row["train_ms"]} ms, infer {row["infer_ms"]} ms, peak {row["peak_mb"]} MB'
        print(f'[{number}/{total}] {name}: {report}', file=sys.stderr, flush=True)
    for number, key in enumerate(comparisons, start=len(names) + 1):
        ratios = in_fresh_process(compare, key, settings)
        rows[0] |= ratios
        report = ', '.join(f'{name} {ratio}' for name, ratio in ratios.items())
        print(f'[{number}/{total}] {report}', file=sys.stderr, flush=True)
    return rows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', choices=list_unets(), metavar='NAME', help=f'one of {", ".join(list_unets())}')
    parser.add_argument('--size', type=positive, default=256, help='side of the images, pixels (%(default)s)')
    parser.add_argument('--batch', type=positive, default=1, help='images in a batch (%(default)s)')
    parser.add_argument('--repeats', type=positive, default=3, help='timed runs of each kind (%(default)s)')
    parser.add_argument('--pairs', type=positive, default=7, help='pairs of runs in a comparison (%(default)s)')
    threads = torch.get_num_threads()
    parser.add_argument('--threads', type=positive, default=threads, help='of the CPU (here %(default)s)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu', help='(%(default)s)')
    parser.add_argument('--dtype', choices=('fp32', 'bf16'), default='fp32', help='bf16 is autocast (%(default)s)')
    parser.add_argument('--plain-layout', action='store_true', help='no network in channels_last (as built)')
    parser.add_argument('--out', type=Path, help='also write a record, for the tables of docs/')
    return parser.parse_args()


def check(only: str | None, settings: Settings) -> None:
    """Refuse now what would fail after minutes."""
    if settings.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: PyTorch sees no GPU here; leave it out to measure on the CPU')
    if only != 'unet':
        return
    if settings.size % COMPARED_MULTIPLE or settings.size < COMPARED_MIN:
        lower = max(settings.size // COMPARED_MULTIPLE * COMPARED_MULTIPLE, COMPARED_MIN)
        raise UserError(
            f'--size {settings.size}: the networks that `--only unet` compares with take multiples of '
            f'{COMPARED_MULTIPLE} from {COMPARED_MIN} on; give {lower} or {lower + COMPARED_MULTIPLE}'
        )
    if find_spec('segmentation_models_pytorch') is None:
        raise UserError(
            '--only unet compares with segmentation-models-pytorch, which is not installed; '
            'install it: pip install -c requirements/constraints.txt segmentation_models_pytorch'
        )


def main() -> None:
    args = vars(parse_args())
    only, out = args.pop('only'), args.pop('out')
    settings = Settings(**args)
    check(only, settings)
    rows = run_tasks(only, settings)
    report('unets', rows, asdict(settings), out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
