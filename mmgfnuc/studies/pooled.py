"""What was found inside the models of an arm, put together over its folds and seeds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.studies.calibration import NUM_BINS

Inside = Mapping[str, Any]


def pooled_inside(inside: Sequence[Inside]) -> dict[str, Any]:
    """Put the inside of runs together.

    Calibration errors are those of a model, so `ece` and `brier` are means over the models; the curve (`bins`) is
    that of all their pixels. Gates are pooled by level, as if all tiles had been seen by one model.

    Args:
        inside: of `measure_inside`, one for each run of an arm.
    """
    return {
        'calibration': _pooled_calibration([found['calibration'] for found in inside]),
        'gates': _pooled_gates([found['gates'] for found in inside]),
    }


def _pooled_calibration(calibrations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scored = [calibration for calibration in calibrations if calibration['bins']]
    if not scored:
        return {'bins': [], 'ece': None, 'brier': None}
    by_place = defaultdict(list)
    for entry in (entry for calibration in scored for entry in calibration['bins']):
        # Empty bins are left out, so that a bin is known by its mean probability.
        by_place[min(int(np.ceil(entry['confidence'] * NUM_BINS)), NUM_BINS)].append(entry)
    return {
        'bins': [_pooled_bin(by_place[place]) for place in sorted(by_place)],
        **{score: float(np.mean([calibration[score] for calibration in scored])) for score in ('ece', 'brier')},
    }


def _pooled_bin(entries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    counts = [entry['count'] for entry in entries]
    means = {
        name: float(np.average([e[name] for e in entries], weights=counts)) for name in ('confidence', 'frequency')
    }
    return {**means, 'count': int(sum(counts))}


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
