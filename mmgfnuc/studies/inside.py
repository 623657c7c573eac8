"""What a trained model does inside: how far its probabilities can be trusted, and what its fusion lets through."""

import json
import math
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmgfnuc.datasets.transforms.formatting import IGNORE_LABEL
from mmgfnuc.files import write_text
from mmgfnuc.models.necks.attention import pool_factor
from mmgfnuc.models.necks.context_adapter import Step
from mmgfnuc.studies.calibration import Calibration

from .trained import TrainedRun, load_trained

MOST_IMAGES = 32
GATE_BINS = 20


def measure_inside(folder: Path) -> None:
    """Write `inside.json` to the folder of a trained run: the same bytes for the same model, data and machine.

    At most 32 test images are looked at, evenly spaced. `calibration`: of the foreground probability, see Calibration;
    ignored pixels are left out. `gates`: for each fused level that has a gate, mean, standard deviation and histogram
    of the gate values over the tiles, and the mean entropy of the attention as a share of its maximum, the logarithm of
    the number of keys (None where the level does not attend).

    Of the gates those are told that are finite. A model that gives NaN for an image has diverged when it was scored.

    Raises:
        UserError: the checkpoint, the data or a weight file is missing or not finite.
    """
    inside = json.dumps(_inside(load_trained(folder)), indent=1, allow_nan=False) + '\n'
    write_text(folder / 'inside.json', inside)


@torch.inference_mode()
def _inside(run: TrainedRun) -> dict[str, Any]:
    calibration, watch = Calibration(), FusionWatch()
    if run.model.neck:
        for level, block in run.model.neck.blocks.items():
            block.register_forward_pre_hook(partial(watch, int(level)))
    for index in evenly_spaced(len(run.data), MOST_IMAGES):
        images, sample = run.load(index)
        logits, _ = run.model.predict_maps(images)
        probability = -torch.expm1(logits[0, 0]).cpu().numpy()
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
        self.ranges[level] = (0.0, 1.0) if block.gate.gate == 'sigmoid' else None
        if 'attention_entropy' in found:
            keys = num_keys(block, local, context)
            # With one key there is nothing to choose from: all of the attention is on all of the keys.
            shares = found['attention_entropy'].mean((1, 2, 3)) / math.log(keys) if keys > 1 else torch.ones(1)
            self.entropies[level] += [share for share in shares.tolist() if math.isfinite(share)]

    def summary(self) -> list[dict[str, Any]]:
        """Describe the gates of each level that has some."""
        return [self._of_level(level) for level in sorted(self.gates) if any(map(len, self.gates[level]))]

    def _of_level(self, level: int) -> dict[str, Any]:
        gates = np.concatenate(self.gates[level], axis=None).astype(np.float64)
        # A GLU gate has no bounds: the histogram spans its values.
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
