"""Histograms as inline SVG; their colours are those of the page."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 32
# A few outliers must not press all others into the first bars: what lies beyond is counted in the last one.
SHOWN_PERCENTILE = 99.5

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 320, 180, 44, 34, 22


def histogram(values: NDArray | Sequence[float], title: str, unit: str, counted: str) -> str:
    """SVG of the distribution of values from 0 up, with their median; nothing without values.

    Args:
        values: to be counted.
        title: above the chart.
        unit: below the chart.
        counted: what a value belongs to, such as 'images'.
    """
    values = np.asarray(values, float)
    if not values.size:
        return ''
    end = max(float(np.percentile(values, SHOWN_PERCENTILE)), 1e-9)
    if np.array_equal(values, np.rint(values)):  # whole numbers: bars of equal numbers of them
        step = max(math.ceil((end + 1) / BINS), 1)
        end = step * math.ceil((end + 1) / step)
        bins = end // step
    else:
        bins = BINS
    counts, _ = np.histogram(np.minimum(values, end * (1 - 1e-9)), bins=int(bins), range=(0.0, end))
    return _svg(counts, end, float(np.median(values)), f'{title} ({values.size:,} {counted})', unit)


def _svg(counts: NDArray[np.int64], end: float, median: float, title: str, unit: str) -> str:
    base, right = HEIGHT - BOTTOM, WIDTH - 10
    across, up = (right - LEFT) / end, (base - TOP) / counts.max()
    width = (right - LEFT) / counts.size
    parts = [
        f'<rect x="{LEFT + i * width:.1f}" y="{base - count * up:.1f}" width="{max(width - 1, 0.5):.1f}" '
        f'height="{count * up:.1f}"/>'
        for i, count in enumerate(counts)
        if count
    ]
    parts.append(f'<path d="M{LEFT} {base}H{right}"/>')
    for tick in ticks(end):
        parts.append(f'<text x="{LEFT + tick * across:.1f}" y="{base + 14}" text-anchor="middle">{tick:g}</text>')
    for tick in ticks(float(counts.max()))[1:]:
        y = base - tick * up
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    if median < end:
        x = LEFT + median * across
        parts.append(f'<path class="median" d="M{x:.1f} {TOP}V{base}"><title>median {median:.4g}</title></path>')
    parts.append(f'<text class="title" x="{LEFT}" y="13">{title}</text>')
    parts.append(f'<text x="{right}" y="{HEIGHT - 4}" text-anchor="end">{unit}, median {median:.4g}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>\n'


def ticks(end: float) -> list[float]:
    """Round numbers from 0 to at most `end`, three to six of them."""
    rough = end / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 10) for i in range(math.floor(end / step + 1e-9) + 1)]
