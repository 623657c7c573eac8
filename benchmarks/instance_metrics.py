"""Time AJI, AJI+ and PQ of two label maps against one sort of their pixels. Prints one JSON line."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from measure import paired_ratio, positive, seconds
from record import report
from scipy.optimize import linear_sum_assignment

from mmgfnuc.engine.cli import run_cli
from mmgfnuc.evaluation.functional import contingency_table, instance_counts, instance_scores

EPILOG = """examples:
  python benchmarks/instance_metrics.py --out docs/results/instance_metrics.json
  python benchmarks/instance_metrics.py --size 500 --nuclei 400 --growth 2

The line:
  cost_vs_unique         time of AJI, AJI+ and PQ (and all else that instance_scores gives) of two label maps, over that
                         of one numpy.unique(codes, return_counts=True) on their combined pair codes, which are made
                         beforehand: median of pairs of runs, in turn in one process
  cost_vs_unique_large   the same on maps of --growth times the side
  cost_growth            time per pixel on the large maps over that on the small ones; 1 is linear
  speedup_vs_loops       time of plain loops over nuclei and masks of the whole image, over ours; one run
  max_abs_diff           largest difference of AJI, AJI+ and PQ between the two
  ms, ms_large           medians of ours; on this machine only

The nuclei are ellipses on a jittered grid, drawn from a fixed seed. In the prediction they are moved and resized; of
each twenty nuclei one is left out, one has the id of its neighbour, one is two."""

SCORES = ('aji', 'aji_plus', 'pq')


def draw_maps(size: int, num_nuclei: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Draw a prediction and a target, (size, size) each, with about so many nuclei."""
    rng = np.random.default_rng(0)
    target, prediction = np.zeros((2, size, size), np.int32)
    per_side = round(num_nuclei**0.5)
    step = size / per_side
    for name, (row, column) in enumerate(np.ndindex(per_side, per_side), start=1):
        centre = (np.array([column, row]) + 0.5 + rng.uniform(-0.25, 0.25, 2)) * step
        axes, angle = rng.uniform(0.25, 0.45, 2) * step, rng.uniform(0, 180)
        _ellipse(target, centre, axes, angle, name)
        fate = rng.integers(20)
        if fate == 0:
            continue
        centre, axes = centre + rng.normal(0, 0.06, 2) * step, axes * rng.uniform(0.8, 1.2)
        _ellipse(prediction, centre, axes, angle, max(name - 1, 1) if fate == 1 else name)
        if fate == 2:
            _ellipse(prediction, centre + axes / 2, axes * 0.7, angle, per_side**2 + name)
    return prediction, target


def _ellipse(label_map: npt.NDArray, centre: npt.NDArray, axes: npt.NDArray, angle: float, name: int) -> None:
    column, row = np.round(centre).astype(int).tolist()
    width, height = np.round(axes).astype(int).tolist()
    cv2.ellipse(label_map, (column, row), (width, height), angle, 0, 360, name, thickness=-1)


def scores(prediction: npt.NDArray, target: npt.NDArray) -> dict[str, float]:
    """Score as the package does."""
    return instance_scores(instance_counts(contingency_table(prediction, target)))


def loop_scores(prediction: npt.NDArray, target: npt.NDArray) -> dict[str, float]:
    """Score by plain loops: every nucleus is a mask of the whole image, IoU are a dense matrix."""
    truth_ids, predicted_ids = (np.unique(label_map[label_map > 0]) for label_map in (target, prediction))
    inter, union = np.zeros((2, len(truth_ids), len(predicted_ids)))
    for row, truth_id in enumerate(truth_ids):
        true = target == truth_id
        for predicted_id in np.unique(prediction[true]):
            if predicted_id:
                predicted = prediction == predicted_id
                place = row, np.searchsorted(predicted_ids, predicted_id)
                inter[place], union[place] = (true & predicted).sum(), (true | predicted).sum()
    truth_areas = np.array([(target == truth_id).sum() for truth_id in truth_ids])
    predicted_areas = np.array([(prediction == predicted_id).sum() for predicted_id in predicted_ids])
    iou = inter / np.maximum(union, 1)

    def jaccard(rows: npt.NDArray, columns: npt.NDArray) -> float:
        paired = iou[rows, columns] > 0
        rows, columns = rows[paired], columns[paired]
        alone = np.delete(truth_areas, rows).sum() + np.delete(predicted_areas, columns).sum()
        return float(inter[rows, columns].sum() / (union[rows, columns].sum() + alone))

    return {
        'aji': jaccard(np.arange(len(truth_ids)), iou.argmax(axis=1)),
        'aji_plus': jaccard(*linear_sum_assignment(iou, maximize=True)),
        'pq': float(iou[iou > 0.5].sum() / ((len(truth_ids) + len(predicted_ids)) / 2)),
    }


class Timer:
    """Seconds of an action; it remembers them all."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.measured: list[float] = []

    def __call__(self) -> float:
        """Run once."""
        self.measured.append(seconds(self.action, 'cpu'))
        return self.measured[-1]

    def median(self) -> float:
        """Return the median over all runs but the first."""
        return float(np.median(self.measured[1:]))


def timers(maps: tuple[npt.NDArray, npt.NDArray]) -> tuple[Timer, Timer]:
    """Timers of one sort of the pixels, and of the scores."""
    prediction, target = maps
    codes = target.astype(np.int64).ravel() * (int(prediction.max()) + 1) + prediction.ravel()
    return Timer(partial(np.unique, codes, return_counts=True)), Timer(partial(scores, *maps))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the scores with one sort, on small and large maps, and with loops."""
    maps = draw_maps(args.size, args.nuclei)
    large_maps = draw_maps(args.size * args.growth, args.nuclei * args.growth**2)
    (unique, ours), (unique_large, ours_large) = timers(maps), timers(large_maps)
    cost = paired_ratio(unique, ours, args.pairs)
    cost_large = paired_ratio(unique_large, ours_large, args.pairs)
    growth = paired_ratio(ours, ours_large, args.pairs) / args.growth**2
    found, expected = scores(*maps), {}
    loops = seconds(lambda: expected.update(loop_scores(*maps)), 'cpu')
    return {
        'nuclei': int(found['num_truth']),
        'cost_vs_unique': round(cost, 2),
        'cost_vs_unique_large': round(cost_large, 2),
        'cost_growth': round(growth, 2),
        'speedup_vs_loops': round(loops / ours.median()),
        'max_abs_diff': max(abs(found[name] - expected[name]) for name in SCORES),
        'ms': round(1000 * ours.median(), 2),
        'ms_large': round(1000 * ours_large.median(), 2),
        **{name: round(found[name], 4) for name in SCORES},
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', type=positive, default=1000, help='side of the maps in pixels (%(default)s)')
    parser.add_argument('--nuclei', type=positive, default=1500, help='about so many (%(default)s)')
    parser.add_argument('--growth', type=positive, default=4, help='side of the large maps over it (%(default)s)')
    parser.add_argument('--pairs', type=positive, default=11, help='pairs of runs (%(default)s)')
    parser.add_argument('--out', type=Path, help='also write a record')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    row = measure(args)
    settings = {key: value for key, value in vars(args).items() if key != 'out'}
    settings |= {'batch': 1, 'threads': 1, 'device': 'cpu'}
    report('instance_metrics', row, settings, args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))
