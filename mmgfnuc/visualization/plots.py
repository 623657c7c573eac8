"""Figures of a study as SVG text for an HTML page. Every function takes plain numbers; see `svg` for what it returns.

A figure names any number of arms at any length: it grows by a row, or by a panel, for each.
"""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .svg import BLUE, INK, TEXT_SIZE, VERMILLION, as_svg, drawing_style, hover, new_figure

# In units of the SVG, CSS pixels at its natural size.
PLOT_WIDTH, ROW_HEIGHT, PLOT_HEIGHT = 380, 22, 360
PANEL_SIZE, PANEL_PITCH, PANEL_COLUMNS = 170, (240, 260), 3
MARKER_SIZE = 7
# From how many images on a distribution is drawn instead of its points.
VIOLIN_IMAGES = 5
# From which ratio of the largest to the smallest on times are drawn on a logarithmic axis.
LOG_RATIO = 10


@dataclass(frozen=True)
class ForestRow:
    """Gain of an arm over a baseline; `interval` is None where none can be given."""

    name: str
    mean: float
    interval: tuple[float, float] | None
    significant: bool


def forest_plot(rows: Sequence[ForestRow], label: str) -> str:
    """Gain and interval of each arm around a line at 0, the numbers at the right.

    Args:
        rows: from top to bottom.
        label: of the axis of gains.

    """
    with drawing_style():
        figure, axes = _row_axes([row.name for row in rows], label)
        axes.axvline(0, color=INK, linewidth=1)
        for filled, words in ((True, 'significant'), (False, 'not significant')):
            axes.plot([], [], 'o', label=words, **_marker(filled))
        for place, row in enumerate(rows):
            numbers = f'{row.mean:+.4f}'
            if row.interval is not None:
                axes.hlines(place, *row.interval, color=BLUE)
                numbers += f' [{row.interval[0]:+.4f}, {row.interval[1]:+.4f}]'
            numbers = numbers.replace('-', '\N{MINUS SIGN}')
            axes.plot(row.mean, place, 'o', gid=hover(f'{row.name}: {numbers}'), **_marker(row.significant))
            _write_right_of(axes, place, numbers)
        _legend_above(axes)
        return as_svg(figure, f'Forest plot: {label}')


def violin_plot(scores: Mapping[str, Sequence[float]], label: str) -> str:
    """Distribution of the scores of each arm's images, with median and quartiles.

    A violin is a kernel density estimate (Scott's bandwidth), cut at the smallest and the largest score and as wide as
    the others. Below five images, or where all scores are equal, the scores are drawn as points instead.

    Args:
        scores: of the images of each arm, from top to bottom.
        label: of the axis of scores.

    Source: Hintze and Nelson, The American Statistician 52 1998; the density is matplotlib's.
    """
    with drawing_style():
        figure, axes = _row_axes(list(scores), label)
        for place, (name, values) in enumerate(scores.items()):
            low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
            words = f'median {median:.3f}, {len(values)} images'
            if len(values) < VIOLIN_IMAGES or np.ptp(values) == 0:
                axes.plot(values, np.full(len(values), place), 'o', **_marker(filled=True), alpha=0.6)
            else:
                _draw_violin(axes, place, values)
                axes.hlines(place, low, high, color=INK, linewidth=4)
            axes.plot(median, place, '|', color=INK, markersize=14, markeredgewidth=2, gid=hover(f'{name}: {words}'))
            _write_right_of(axes, place, words)
        axes.plot([], [], '|', color=INK, markersize=14, markeredgewidth=2, label='median')
        axes.plot([], [], color=INK, linewidth=4, label='quartiles')
        _legend_above(axes)
        return as_svg(figure, f'Violin plot: {label}')


def _draw_violin(axes: Axes, place: int, values: Sequence[float]) -> None:
    violin = axes.violinplot(values, [place], orientation='horizontal', widths=0.85, showextrema=False, points=60)
    for body in violin['bodies']:  # type: ignore[attr-defined]
        body.set(facecolor=(BLUE, 0.5), edgecolor=BLUE, alpha=None)


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (time, score) that no other beats, by time: none is as fast and as good, and better in one.

    Examples:
        >>> pareto_front({'good': (3, 0.9), 'slow': (4, 0.9), 'fast': (1, 0.5), 'bad': (2, 0.4)})
        ['fast', 'good']

    """
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1] or points[name] == points[front[-1]]:
            front.append(name)
    return front


def pareto_plot(points: Mapping[str, tuple[float, float]], x_label: str, y_label: str) -> str:
    """Score of each arm against its time, and the Pareto front as steps: what is best within a time.

    Points are numbered, the key is beside the plot. Times are on a logarithmic axis where the largest is more than ten
    times the smallest.

    Args:
        points: time (or another cost) and score of each arm.
        x_label: of the times.
        y_label: of the scores.

    """
    with drawing_style():
        figure, axes = _new_axes(PLOT_WIDTH, max(PLOT_HEIGHT, 18 * len(points)))
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.margins(0.1)
        axes.locator_params(axis='x', nbins=5)
        axes.grid()
        times = [time for time, _ in points.values()]
        if min(times) > 0 and max(times) > LOG_RATIO * min(times):
            _use_log_times(axes, max(times) / min(times))
        front = pareto_front(points)
        steps = [points[name] for name in front] + [(max(times), points[front[-1]][1])]
        axes.step(*zip(*steps, strict=True), where='post', color=VERMILLION, label='Pareto front (bold)')
        for number, (name, point) in enumerate(points.items(), start=1):
            words = f'{name}: {point[0]:.3g}, {point[1]:.4f}'
            axes.plot(*point, 'o', gid=hover(words), **_marker(name in front))
            weight = 'bold' if name in front else 'normal'
            at = (16, -6 - 18 * (number - 1))
            axes.annotate(f'{number}. {name}', (1, 1), at, 'axes fraction', 'offset points', fontweight=weight)
        _number_points(axes, list(points.values()))
        _legend_above(axes)
        return as_svg(figure, f'Pareto plot: {y_label} against {x_label}')


def _use_log_times(axes: Axes, ratio: float) -> None:
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < LOG_RATIO**2 else (1,)))
    # Plain numbers: matplotlib's own powers of ten are formulas, whose parts an HTML page would not align.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f'{time:g}'))
    axes.xaxis.set_minor_locator(NullLocator())


def _number_points(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Write 1, 2, ... at the points; numbers that stand apart from their point get a line to it."""
    # The axes take their limits late: without asking for them, points would be placed by the old ones.
    axes.get_xlim(), axes.get_ylim()
    offsets = label_offsets(axes.transData.transform(points), len(str(len(points))))
    for number, (point, offset) in enumerate(zip(points, offsets, strict=True), start=1):
        line = dict(arrowstyle='-', color=INK, linewidth=0.6, shrinkA=0, shrinkB=4) if np.hypot(*offset) > 18 else None
        axes.annotate(
            str(number),
            point,
            tuple(offset),
            'data',
            'offset points',
            line,
            ha='center',
            va='center',
            fontsize=TEXT_SIZE - 1,
        )


def label_offsets(anchors: npt.NDArray[np.float64], num_characters: int) -> npt.NDArray[np.float64]:
    """Where labels stand so that none covers a marker or another label: each in turn as near as it can.

    Args:
        anchors: (N, 2), centres of the markers in units of the SVG.
        num_characters: of the longest label.

    Shape:
        - Output: (N, 2), centres of the labels relative to the anchors.
    """
    directions = np.deg2rad([45, 135, 315, 225, 90, 270, 0, 180])
    circle = np.stack([np.cos(directions), np.sin(directions)], axis=1)
    # Two boxes overlap where their centres are closer than the sum of their half sizes in both directions.
    label = np.array([7.0 * num_characters + 2, 14.0])
    marker = (label + MARKER_SIZE) / 2
    placed: list[npt.NDArray[np.float64]] = []
    for anchor in anchors:
        for offset in (radius * way for radius in itertools.count(12, 4) for way in circle):
            centre = anchor + offset
            hits = (np.abs(anchors - centre) < marker).all(axis=1).any()
            if not hits and not any((np.abs(other - centre) < label).all() for other in placed):
                placed.append(centre)
                break
    return np.array(placed) - anchors


def calibration_plot(curves: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    """Reliability diagram of each arm in a panel of its own: observed frequency against mean confidence.

    On the dashed diagonal confidence is right. The area of a point grows with its count.

    Args:
        curves: bins of each arm: mean confidence, observed frequency, count; a bin without a count is not drawn.

    Source: DeGroot and Fienberg, The Statistician 32 1983.
    """
    with drawing_style():
        num_rows = math.ceil(len(curves) / PANEL_COLUMNS)
        size = np.array([min(len(curves), PANEL_COLUMNS), num_rows]) * PANEL_PITCH
        figure = new_figure(*size)
        for place, (name, bins) in enumerate(curves.items()):
            row, column = divmod(place, PANEL_COLUMNS)
            corner = np.array([column, num_rows - 1 - row]) * PANEL_PITCH / size
            axes = figure.add_axes((*corner, *(PANEL_SIZE / size)))
            _draw_reliability(axes, [bin_ for bin_ in bins if bin_[2] > 0])
            _write_title(axes, name)
            if place + PANEL_COLUMNS >= len(curves):
                axes.set_xlabel('mean confidence')
            if column == 0:
                axes.set_ylabel('observed frequency')
        return as_svg(figure, 'Reliability diagrams: observed frequency against mean confidence')


def _draw_reliability(axes: Axes, bins: Sequence[tuple[float, float, int]]) -> None:
    confidence, frequency, counts = np.array(bins, float).reshape(-1, 3).T
    axes.plot([0, 1], [0, 1], '--', color=INK, linewidth=1)
    axes.plot(confidence, frequency, color=BLUE)
    axes.scatter(confidence, frequency, s=8 + 72 * counts / counts.sum(), color=BLUE, clip_on=False, zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.grid()


def _write_title(axes: Axes, name: str) -> None:
    """Write a name above a panel, in lines that end behind a slash where they can."""
    lines = [line.replace('/ ', '/') for line in textwrap.wrap(name.replace('/', '/ '), 32, break_on_hyphens=False)]
    for place, line in enumerate(reversed(lines)):
        words = axes.annotate(line, (0, 1), (0, 8 + 14 * place), 'axes fraction', 'offset points')
        words.set(fontsize=TEXT_SIZE - 1, gid=hover(name))


def gate_plot(histograms: Mapping[str, tuple[Sequence[float], Sequence[int]]]) -> str:
    """Distribution of the gate values of each arm and level, in rows, each as high as the others.

    Args:
        histograms: name of each row -> edges and counts of the bins, one edge more than counts.

    """
    with drawing_style():
        figure, axes = _row_axes(list(histograms), 'gate value', row_height=32)
        for place, (name, (edges, counts)) in enumerate(histograms.items()):
            density = np.divide(counts, np.diff(edges))
            heights = 0.8 * density / (density.max() or 1)
            base = place + 0.4
            axes.stairs(base - heights, edges, baseline=base, fill=True, fc=(BLUE, 0.5), ec=BLUE, lw=1, gid=hover(name))
        return as_svg(figure, 'Distributions of gate values')


def _new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.add_axes((0, 0, 1, 1))


def _row_axes(names: Sequence[str], label: str, row_height: int = ROW_HEIGHT) -> tuple[Figure, Axes]:
    """Axes with a row for each name: the first, at 0, on top."""
    figure, axes = _new_axes(PLOT_WIDTH, row_height * len(names))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.locator_params(axis='x', nbins=5)
    axes.spines['left'].set_visible(False)
    axes.tick_params(axis='y', length=0, pad=10)
    axes.grid(axis='x')
    axes.set_axisbelow(True)
    return figure, axes


def _marker(filled: bool) -> dict[str, Any]:
    return {'color': BLUE, 'fillstyle': 'full' if filled else 'none', 'markersize': MARKER_SIZE, 'markeredgewidth': 1.5}


def _write_right_of(axes: Axes, place: int, words: str) -> None:
    axes.text(1.03, place, words, transform=axes.get_yaxis_transform(), va='center_baseline')


def _legend_above(axes: Axes) -> None:
    axes.legend(loc='lower left', bbox_to_anchor=(0, 1), borderaxespad=0, borderpad=0.3, ncols=2, handlelength=1.5)
