"""What arms cost: parameters, multiply-adds, the time of a training step, time and memory of inference."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmgfnuc.engine.provenance import hardware, library_versions
from mmgfnuc.files import read_json, write_json
from mmgfnuc.models.complexity import TensorMemory, count_macs, count_parameters, on_meta
from mmgfnuc.models.decode_heads import InstanceHead
from mmgfnuc.models.foundation import entry_of_config
from mmgfnuc.models.foundation.base import weights_are_meant
from mmgfnuc.registry import MODELS

from .arms import Arm
from .identity import code_digest, digest_of, parts_digest
from .runs import run_config
from .study import Study

TIMED_STEPS = 3
TIMED_PAIRS = 15


@dataclass(frozen=True)
class ArmCosts:
    """Costs of one model.

    Attributes:
        parameters: all of them, those of a frozen encoder counted in.
        trained: parameters that are trained.
        macs: multiply-adds of one tile.
        token_stride: image pixels per token of the foundation encoder's last feature; None without one.
    """

    parameters: int
    trained: int
    macs: int
    token_stride: float | None


@dataclass(frozen=True)
class InferenceCosts:
    """Costs of the logits of one tile.

    Attributes:
        seconds: median.
        ratio: to the baseline, timed by turns: median of the ratios of 15 pairs.
        bytes: most that its tensors hold at a time, weights not counted.
    """

    seconds: float
    ratio: float
    bytes: int


def arm_costs(study: Study, arm: Arm) -> ArmCosts:
    """Count what a model has and does, without its weights, memory or time.

    Raises:
        UserError: a part does not exist.
    """
    config, size, channels = _model_of(study, arm)
    model: Any = on_meta(lambda: _build(config))
    parameters, trained = count_parameters(model)
    stride = model.foundation.token_strides(size, size)[-1] if model.foundation else None
    return ArmCosts(parameters, trained, count_macs(model, size, channels), stride)


def step_seconds(study: Study, arm: Arm) -> float:
    """Time a training step on noise: forward, loss and backward; median of three, after one that is not counted.

    On a CPU it has one thread, as a run has. Loading and the optimiser are left out, and other work on the machine is
    in it: an estimate.
    """
    config, size, channels = _model_of(study, arm)
    model = _build(config).train().to(_device())
    images = torch.rand(study.batch_size, channels, size, size, device=_device())
    samples = [_noise_truth(model.decode_head, size).to(_device()) for _ in images]
    with _threads_of_a_run():
        times = [_seconds(lambda: _step(model, images, samples, study.amp)) for _ in range(TIMED_STEPS + 1)]
    return median(times[1:])


@torch.inference_mode()
def inference_costs(study: Study, arm: Arm) -> InferenceCosts:
    """Time an arm and the baseline by turns on a tile of noise, with random weights; nuclei are not separated.

    On a CPU both have one thread, as a run has. Other work on the machine is in the seconds, but in the ratio only as
    far as it changes from one turn to the next.
    """
    pair = [_ready(study, each) for each in (arm, study.arms[0])]
    with _threads_of_a_run():
        for model in pair:
            model()
        times = [[_seconds(model) for model in pair] for _ in range(TIMED_PAIRS)]
    ratio = 1.0 if arm == study.arms[0] else median(own / baseline for own, baseline in times)
    with TensorMemory() as memory:
        pair[0]()
    return InferenceCosts(median(own for own, _ in times), ratio, memory.peak)


@contextmanager
def _threads_of_a_run() -> Iterator[None]:
    """One on a CPU; to a GPU they make no difference."""
    before = torch.get_num_threads()
    if _device() == 'cpu':
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ready(study: Study, arm: Arm) -> Callable[[], Any]:
    """A model with a tile to run it on."""
    config, size, channels = _model_of(study, arm)
    model = _build(config).eval().to(_device())
    tile = torch.rand(1, channels, size, size, device=_device())
    return lambda: model(tile, mode='tensor')


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    if _device() == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _device() -> str:
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _step(model: Any, images: torch.Tensor, samples: list[SegDataSample], amp: bool) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
        losses = model(images, samples, mode='loss')
    model.zero_grad()
    model.parse_losses(losses)[0].backward()


def _noise_truth(head: InstanceHead, size: int) -> SegDataSample:
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, head.num_classes, (1, size, size))))
    if head.target is not None:
        # Auxiliary maps have one channel for each, a boundary map one of classes.
        target = torch.zeros(head.num_auxiliary, size, size)
        setattr(sample, head.target['key'], PixelData(data=target))
    return sample


def _build(config: Config) -> Any:
    with weights_are_meant():
        return MODELS.build(config)


def _model_of(study: Study, arm: Arm) -> tuple[Config, int, int]:
    """Config of a model without weight files, side of its tiles and channels of its images."""
    model = Config(run_config(study, arm, study.splits[0], study.seeds[0])).model
    if model.foundation:
        model.foundation.weights = entry_of_config(model.foundation).without_file
    return model, model.test_cfg.tile, 6 if model.get('partner_context') else 3


class KnownCosts:
    """Costs of the arms of a study, kept in a file: what was measured before for the same model is not measured again.

    Args:
        study: that the arms are of; its first arm is the baseline.
        path: of the file.
    """

    def __init__(self, study: Study, path: Path) -> None:
        self.study, self.path = study, path
        self.known: dict[str, Any] = {}
        if path.is_file():
            self.known = read_json(path, 'delete it, and it is measured again')

    def __call__(self, arm: Arm) -> dict[str, Any]:
        """Costs of an arm."""
        key = self._key(arm)
        if key not in self.known:
            self.known[key] = self._measure(arm)
            write_json(self.path, self.known)
        return self.known[key]

    def _key(self, arm: Arm) -> str:
        study = self.study
        models = [run_config(study, each, study.splits[0], study.seeds[0])['model'] for each in (arm, study.arms[0])]
        code = code_digest('models', 'studies/costs.py')
        return digest_of(models, parts_digest(models), code, library_versions(), hardware())

    def _measure(self, arm: Arm) -> dict[str, Any]:
        inference = inference_costs(self.study, arm)
        return {
            **asdict(arm_costs(self.study, arm)),
            'inference_seconds': inference.seconds,
            'inference_ratio': inference.ratio,
            'inference_mb': inference.bytes / 10**6,
        }
