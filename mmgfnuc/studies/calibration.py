"""Do probabilities mean what they say? Counted image by image, so that no set has to be held in memory."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


class Calibration:
    """Reliability of predicted foreground probabilities.

    Pixels are sorted by their probability p into equal bins (lower, upper], the first one with 0. With n_b of the N
    pixels in bin b, their mean probability (`confidence`) and the share of them that is foreground (`frequency`):
    ECE = sum over b of n_b / N * |frequency_b - confidence_b|, Brier score = mean of (p - y)^2, y being 1 or 0.

    Args:
        num_bins: equal parts of 0 to 1.

    Source: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al. 2017, "On
    Calibration of Modern Neural Networks", there of the predicted class, here of the foreground; Brier 1950,
    "Verification of forecasts expressed in terms of probability".
    """

    def __init__(self, num_bins: int = NUM_BINS) -> None:
        self.inner_edges = np.linspace(0, 1, num_bins + 1)[1:-1]
        self.counts = np.zeros(num_bins, np.int64)
        self.foreground = np.zeros(num_bins, np.int64)
        self.probability = np.zeros(num_bins)
        self.squares = 0.0

    def add(self, probability: NDArray[np.floating], foreground: NDArray[np.bool_]) -> None:
        """Count pixels.

        Shape:
            probability (N,) in [0, 1], foreground (N,), True where it is
        """
        probability, num_bins = probability.astype(np.float64), len(self.counts)
        bins = np.searchsorted(self.inner_edges, probability)
        self.counts += np.bincount(bins, minlength=num_bins)
        self.foreground += np.bincount(bins[foreground], minlength=num_bins)
        self.probability += np.bincount(bins, probability, num_bins)
        self.squares += float(np.square(probability - foreground).sum())

    def summary(self) -> dict[str, Any]:
        """Give `bins` (`confidence`, `frequency`, `count`; empty ones left out), `ece` and `brier`.

        Without a pixel there are no bins, and both scores are None.
        """
        total = int(self.counts.sum())
        if not total:
            return {'bins': [], 'ece': None, 'brier': None}
        filled = self.counts > 0
        counts = self.counts[filled]
        confidence, frequency = self.probability[filled] / counts, self.foreground[filled] / counts
        bins = [
            {'confidence': float(mean), 'frequency': float(share), 'count': int(count)}
            for mean, share, count in zip(confidence, frequency, counts, strict=True)
        ]
        ece = float((counts * np.abs(frequency - confidence)).sum() / total)
        return {'bins': bins, 'ece': ece, 'brier': self.squares / total}


def pooled_calibration(calibrations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put the summaries of several models together: `ece` and `brier` are means over models, `bins` of all pixels."""
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
