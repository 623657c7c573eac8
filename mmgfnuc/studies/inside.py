"""What a trained model does inside: how far its probabilities can be trusted, and what its fusion lets through."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample
from numpy.typing import NDArray
from torch import Tensor

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.transforms.formatting import IGNORE_LABEL
from mmgfnuc.engine.targets import add_target
from mmgfnuc.files import write_json
from mmgfnuc.inference import Predictor
from mmgfnuc.inference.dumped_config import check_outputs, check_registered, forget_caches, read_dumped
from mmgfnuc.models.foundation.base import weights_are_meant
from mmgfnuc.models.necks.attention import TokenAttention, pool_factor
from mmgfnuc.models.necks.context_adapter import Step
from mmgfnuc.registry import DATASETS

from .calibration import Calibration, pooled_calibration
from .storage import inside_file

MOST_IMAGES = 32
GATE_BINS = 20


def read_settings(folder: Path) -> Config:
    """Read what the config of a run says, as data.

    Raises:
        UserError: it holds code.
    """
    path = folder / 'config.py'
    return read_dumped(path.read_text(encoding='utf-8'), str(path))


def read_config(folder: Path) -> Config:
    """Read the config of a run as data, and let it work in its folder.

    Raises:
        UserError: it holds code, names what is not a registered part, or where to write.
    """
    path, config = folder / 'config.py', read_settings(folder)
    check_registered(config, str(path))
    forget_caches(config.get('model'))
    check_outputs(config, str(path))
    config.work_dir = str(folder)
    add_target(config)
    return config


@dataclass(frozen=True)
class TrainedRun:
    """A run after its training.

    Attributes:
        model: FusionSegmentor with the weights of the last step, in evaluation mode.
        data: the test part, through the test pipeline.
    """

    model: Any
    data: NucleiDataset

    def load(self, index: int) -> tuple[Tensor, SegDataSample]:
        """Read an image of the test part as the model takes it, and its truth.

        Shape:
            - images: (1, 3, H, W), or (1, 6, H, W) with the partner image, in [0, 1]
        """
        packed = self.data[index]
        batch = {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
        batch = self.model.data_preprocessor(batch)
        return batch['inputs'], batch['data_samples'][0]


def load_trained(folder: Path) -> TrainedRun:
    """Load the last checkpoint of the folder of a run.

    Raises:
        UserError: the checkpoint, the data or a weight file is missing, damaged, or does not fit.
    """
    config = read_config(folder)
    checkpoint = folder / f'iter_{config.train_cfg.max_iters}.pth'
    with weights_are_meant():
        model = Predictor(checkpoint, config).model
    return TrainedRun(model, DATASETS.build(config.test_dataloader.dataset))


def measure_inside(folder: Path) -> None:
    """Write `inside-<code>.json` to the folder of a trained run: the same bytes for the same model, data and machine.

    At most 32 test images are looked at, evenly spaced. `calibration`: of the foreground probability, see Calibration;
    ignored pixels are left out. `gates`: for each fused level that has a gate, mean, standard deviation and histogram
    of the gate values over the tiles, and the mean entropy of the attention as a share of its maximum, the logarithm of
    the number of keys (None where the level does not attend).

    Of the gates those are told that are finite. A model that gives NaN for an image has diverged when it was scored.

    Raises:
        UserError: the checkpoint, the data or a weight file is missing or not finite.
    """
    found = _inside(load_trained(folder))
    for earlier in folder.glob('inside-*.json'):
        earlier.unlink()
    write_json(inside_file(folder), found)


@torch.inference_mode()
def _inside(run: TrainedRun) -> dict[str, Any]:
    calibration, watch = Calibration(), FusionWatch()
    # A neck of one's own need not be made of blocks.
    for level, block in getattr(run.model.neck, 'blocks', {}).items():
        block.register_forward_pre_hook(partial(watch, int(level)))
    for index in evenly_spaced(len(run.data), MOST_IMAGES):
        images, sample = run.load(index)
        probabilities, _ = run.model.predict_maps(images, sample.get('mpp'))
        probability = (1 - probabilities[0, 0]).cpu().numpy()
        truth = sample.gt_sem_seg.data[0].cpu().numpy()
        counts = truth != IGNORE_LABEL
        calibration.add(probability[counts], truth[counts] > 0)
    return {'calibration': calibration.summary(), 'gates': watch.summary()}


def evenly_spaced(length: int, most: int) -> list[int]:
    """Choose at most `most` of the indices below `length`, the first and the last among them.

    >>> evenly_spaced(9, 3), evenly_spaced(2, 3)
    ([0, 4, 8], [0, 1])
    """
    return np.linspace(0, length - 1, min(length, most)).round().astype(int).tolist()


class FusionWatch:
    """Hook before the blocks of a neck that keeps what each fused level does to the tiles that come by.

    A tile leaves C gate values and one mean entropy, little beside its pixels.
    """

    def __init__(self) -> None:
        self.gates: dict[int, list[NDArray[np.float32]]] = defaultdict(list)
        self.entropies: dict[int, list[float]] = defaultdict(list)
        self.ranges: dict[int, tuple[float, float] | None] = {}

    def __call__(self, level: int, block: Any, inputs: tuple[Tensor, Tensor, Step]) -> None:
        """Keep the gates and the attention entropy of one call of the block of a level."""
        local, context, _ = inputs
        try:
            found = block.explain(*inputs)
        except ValueError:  # there is no entropy of NaN
            return
        if 'gate' not in found:
            return
        gates = found['gate'].cpu().numpy()
        self.gates[level].append(gates[np.isfinite(gates)])
        kind = getattr(getattr(block, 'gate', None), 'gate', None)
        self.ranges[level] = (0.0, 1.0) if kind == 'sigmoid' else None
        # How many keys another kind of attention has is not known.
        if 'attention_entropy' in found and isinstance(getattr(block, 'attention', None), TokenAttention):
            keys = num_keys(block, local, context)
            # With one key there is nothing to choose from: all of the attention is on all of the keys.
            shares = found['attention_entropy'].mean((1, 2, 3)) / math.log(keys) if keys > 1 else torch.ones(1)
            self.entropies[level] += [share for share in shares.tolist() if math.isfinite(share)]

    def summary(self) -> list[dict[str, Any]]:
        """Describe the gates of each level that has some."""
        return [self._of_level(level) for level in sorted(self.gates) if any(map(len, self.gates[level]))]

    def _of_level(self, level: int) -> dict[str, Any]:
        gates = np.concatenate(self.gates[level], axis=None).astype(np.float64)
        # A GLU gate has no bounds, and those of one's own are not known: the histogram spans its values.
        counts, edges = np.histogram(gates, GATE_BINS, self.ranges[level])
        entropies = self.entropies[level]
        return {
            'level': level,
            'mean': float(gates.mean()),
            'std': float(gates.std()),
            'edges': edges.tolist(),
            'counts': counts.tolist(),
            'entropy': float(np.mean(entropies)) if entropies else None,
        }


def num_keys(block: Any, local: Tensor, context: Tensor) -> int:
    """Count what a pixel of a level can attend to: tokens of the encoder or pixels of the level, after pooling."""
    size = (context if block.takes_tokens else local).shape[-2:]
    factor = pool_factor(size, block.attention.max_keys)
    return math.prod(math.ceil(side / factor) for side in size)


def pooled_inside(inside: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put together what was seen inside the models of an arm.

    Calibration errors are those of a model, so `ece` and `brier` are means over the models; the curve (`bins`) is
    that of all their pixels. Gates are pooled by level, as if all tiles had been seen by one model.

    Args:
        inside: of `measure_inside`, one for each run of an arm.
    """
    return {
        'calibration': pooled_calibration([found['calibration'] for found in inside]),
        'gates': _pooled_gates([found['gates'] for found in inside]),
    }


def _pooled_gates(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    by_level = defaultdict(list)
    for gate in (gate for run in runs for gate in run):
        by_level[gate['level']].append(gate)
    return [_pooled_gate(by_level[level]) for level in sorted(by_level)]


def _pooled_gate(gates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = [sum(gate['counts']) for gate in gates]
    mean = float(np.average([gate['mean'] for gate in gates], weights=counts))
    # Variance of a mixture: that within the models, and that between them.
    squares = [gate['std'] ** 2 + (gate['mean'] - mean) ** 2 for gate in gates]
    entropies = [gate['entropy'] for gate in gates if gate['entropy'] is not None]
    edges = np.linspace(
        min(gate['edges'][0] for gate in gates), max(gate['edges'][-1] for gate in gates), len(gates[0]['edges'])
    )
    return {
        'level': gates[0]['level'],
        'mean': mean,
        'std': float(np.sqrt(np.average(squares, weights=counts))),
        'edges': edges.tolist(),
        'counts': np.sum([rebinned(gate['edges'], gate['counts'], edges) for gate in gates], axis=0).tolist(),
        'entropy': float(np.mean(entropies)) if entropies else None,
    }


def rebinned(edges: Sequence[float], counts: Sequence[float], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring a histogram to other edges, its values taken as spread evenly within each bin.

    Examples:
        >>> rebinned([0, 1, 2], [10, 20], np.array([0, 0.5, 2, 3])).tolist()
        [5.0, 25.0, 0.0]

    """
    cumulated = np.interp(target, edges, np.concatenate([[0], np.cumsum(counts)]))
    return np.diff(cumulated)
