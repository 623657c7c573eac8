"""Figures of a study and of a data set as SVG for the inside of an HTML page.

They take plain numbers, and grow with the number of arms. Text stays text, in the font of the page; `INK` becomes the
colour of the page's text; nothing is painted behind the drawing.
"""

import io
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple, ParamSpec

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

# matplotlib has no name for the colour of the surrounding text: this one stands for it until the SVG is written.
INK = '#010203'
# Okabe and Ito's pair that differs for every kind of colour vision, the blue lighter than theirs: both are seen on
# white and on nearly black.
BLUE, VERMILLION = '#1e80c1', '#d55e00'
# In CSS pixels, at the natural size of the figure.
WIDTH, ROW, HEIGHT, PANEL, TEXT = 380, 24, 360, 200, 12
PANEL_COLUMNS = 3
STYLE: dict[Any, Any] = {
    'svg.fonttype': 'none',
    'text.parse_math': False,
    'axes.formatter.useoffset': False,
    'figure.dpi': 72,  # a point is a CSS pixel
    'font.size': TEXT,
    'legend.fontsize': TEXT,
    'legend.frameon': False,
    'axes.titlesize': TEXT,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    **dict.fromkeys(
        ['text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color', 'grid.color'], INK
    ),
    'grid.alpha': 0.15,
}
# From which ratio of the largest to the smallest on times are drawn on a logarithmic axis.
LOG_RATIO = 10
BINS = 32
# A few outliers must not press all others into the first bars: what lies beyond is counted in the last one.
SHOWN_PERCENTILE = 99.5

Given = ParamSpec('Given')


def as_svg(draw: Callable[Given, Figure]) -> Callable[Given, Markup]:
    """Let a function draw in the style of all figures, whatever the user's settings are, and give SVG text.

    The same arguments give the same bytes. No id occurs in figures that differ.
    """

    @wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> Markup:
        text = io.StringIO()
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update({**STYLE, 'svg.hashsalt': f'{draw.__name__} {args} {kwargs}'})
            figure = draw(*args, **kwargs)
            metadata = dict.fromkeys(['Date', 'Creator', 'Format', 'Type'])
            figure.savefig(text, format='svg', bbox_inches='tight', pad_inches=0.1, transparent=True, metadata=metadata)
        return Markup(_for_html(text.getvalue()))

    return drawn


def _for_html(svg: str) -> str:
    svg = svg[svg.index('<svg ') :].replace(INK, 'currentColor')
    # The style sheet would hold for the whole page.
    svg = re.sub('<style.*?</style>', '', svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' width="([\d.]+)pt" height="[\d.]+pt"', r' style="max-width: \1px"', svg, count=1)
    return re.sub('<[^>]*>\\s*', _shortened, svg)


def _shortened(tag: re.Match[str]) -> str:
    """Leave the font to the page; drop ids that nothing refers to, digits that nobody sees, and blanks behind a tag."""
    text = re.sub(r'font-family: [^;]*; | id="[A-Za-z0-9.]+_\d+"', '', tag[0].rstrip())
    return re.sub(r'(\.\d\d)\d+', r'\1', text)


class Difference(NamedTuple):
    """Of an arm to its baseline, with its interval, if there is one."""

    name: str
    mean: float
    interval: Sequence[float] | None
    significant: bool


@as_svg
def difference_plot(rows: Sequence[Difference], label: str) -> Figure:
    """Draw differences and intervals around a line at 0, from top to bottom, the numbers at the right."""
    figure, axes = _row_axes([row.name for row in rows], label, row_height=ROW * 1.5)
    axes.axvline(0, color=INK, linewidth=1)
    for filled, words in ((True, 'significant'), (False, 'not significant')):
        axes.plot([], [], label=words, **_marker(filled))
    for place, row in enumerate(rows):
        numbers = f'{row.mean:+.3f}'
        if row.interval is not None:
            low, high = row.interval
            axes.hlines(place, low, high, color=BLUE)
            numbers += f' [{low:+.3f}, {high:+.3f}]'
        axes.plot(row.mean, place, **_marker(row.significant))
        _write_right_of(axes, place, numbers.replace('-', '\N{MINUS SIGN}'))
    _legend_above(axes)
    return figure


@as_svg
def score_plot(scores: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Draw a box for the scores of each arm's images: median, quartiles, smallest and largest."""
    figure, axes = _row_axes(list(scores), label)
    axes.boxplot(
        list(scores.values()),
        positions=range(len(scores)),
        orientation='horizontal',
        whis=(0, 100),
        widths=0.55,
        manage_ticks=False,
        patch_artist=True,
        boxprops={'facecolor': (BLUE, 0.4), 'edgecolor': BLUE},
        whiskerprops={'color': BLUE},
        capprops={'color': BLUE},
        medianprops={'color': INK, 'linewidth': 2},
    )
    for place, values in enumerate(scores.values()):
        _write_right_of(axes, place, f'median {np.median(values):.3f}, {len(values)} images')
    return figure


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


@as_svg
def pareto_plot(points: Mapping[str, tuple[float, float]], x_label: str, y_label: str) -> Figure:
    """Draw the score of each arm against its time, and the Pareto front as steps: what is best within a time.

    Times are on a logarithmic axis where the largest is more than ten times the smallest.
    """
    figure, axes = _new_axes(WIDTH, max(HEIGHT, 18 * len(points)))
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.margins(0.1)
    axes.locator_params(axis='x', nbins=5)
    axes.grid()
    times = [time for time, _ in points.values()]
    if min(times) > 0 and max(times) > LOG_RATIO * min(times):
        axes.set_xscale('log')
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(times) < LOG_RATIO**2 * min(times) else (1,)))
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_locator(NullLocator())
    front = pareto_front(points)
    steps = [points[name] for name in front] + [(max(times), points[front[-1]][1])]
    axes.step(*zip(*steps, strict=True), where='post', color=VERMILLION, label='Pareto front (bold)')
    for name, point in points.items():
        axes.plot(*point, **_marker(name in front))
    _name_points(axes, points, front)
    _legend_above(axes)
    return figure


def _name_points(axes: Axes, points: Mapping[str, tuple[float, float]], bold: Sequence[str]) -> None:
    """Write the names beside the axes, the best on top, as near to the height of their points as they have room."""
    axes.get_ylim()  # the axes take their limits late: without asking for them, points would be placed by the old ones
    height, above = axes.bbox.height, math.inf
    for name in sorted(points, key=lambda name: -points[name][1]):
        own = axes.transAxes.inverted().transform(axes.transData.transform(points[name]))[1]
        above = min(own, above - 1.4 * TEXT / height)
        axes.annotate(
            name,
            points[name],
            (1.06, above),
            textcoords='axes fraction',
            va='center',
            fontweight='bold' if name in bold else 'normal',
            arrowprops=dict(arrowstyle='-', color=INK, linewidth=0.5, alpha=0.5, shrinkA=2, shrinkB=4, relpos=(0, 0.5)),
        )


@as_svg
def calibration_plot(curves: Mapping[str, Sequence[tuple[float, float, int]]]) -> Figure:
    """Draw a reliability diagram of each arm in a panel of its own: observed frequency against mean confidence.

    On the dashed diagonal confidence is right. The area of a point grows with its count.

    Args:
        curves: bins of each arm: mean confidence, observed frequency, count; a bin without a count is not drawn.

    Source: DeGroot and Fienberg, The Statistician 32 1983.
    """
    columns = min(len(curves), PANEL_COLUMNS)
    rows = math.ceil(len(curves) / columns)
    figure = Figure((columns * PANEL * 1.2 / 72, rows * PANEL * 1.2 / 72), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, bins) in zip(panels, curves.items(), strict=False):
        confidence, frequency, counts = np.array([part for part in bins if part[2] > 0], float).reshape(-1, 3).T
        axes.plot([0, 1], [0, 1], '--', color=INK, linewidth=1)
        axes.plot(confidence, frequency, color=BLUE)
        axes.scatter(confidence, frequency, s=8 + 72 * counts / counts.sum(), color=BLUE, clip_on=False, zorder=3)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect='equal')
        lines = textwrap.wrap(name.replace('/', '/ '), 30, break_on_hyphens=False)
        axes.set_title('\n'.join(lines).replace('/ ', '/'), loc='left')
        axes.grid()
    for axes in panels[len(curves) :]:
        axes.remove()
    figure.supxlabel('mean confidence', fontsize=TEXT)
    figure.supylabel('observed frequency', fontsize=TEXT)
    return figure


@as_svg
def gate_plot(histograms: Mapping[str, tuple[Sequence[float], Sequence[int]]]) -> Figure:
    """Draw the density of the gate values of each arm and level in a row, each as high as the others.

    Args:
        histograms: name of each row -> edges and counts of the bins, one edge more than counts.

    """
    figure, axes = _row_axes(list(histograms), 'gate value', row_height=32)
    for place, (edges, counts) in enumerate(histograms.values()):
        density = np.divide(counts, np.diff(edges))
        base = place + 0.4
        heights = base - 0.8 * density / (density.max() or 1)
        axes.stairs(heights, edges, baseline=base, fill=True, facecolor=(BLUE, 0.5), edgecolor=BLUE, linewidth=1)
    return figure


@as_svg
def histogram(values: npt.ArrayLike, title: str, unit: str) -> Figure:
    """Draw the distribution of values from 0 up, and their median. The last bar holds all that lies beyond."""
    figure, axes = _new_axes(WIDTH * 0.8, HEIGHT * 0.4)
    values = np.asarray(values, float)
    end = max(float(np.percentile(values, SHOWN_PERCENTILE)), 1e-9)
    if np.array_equal(values, np.rint(values)):  # whole numbers: bars of equal numbers of them
        step = max(math.ceil((end + 1) / BINS), 1)
        edges = np.arange(0, end + step + 1, step, dtype=float)
    else:
        edges = np.linspace(0, end, BINS + 1)
    axes.hist(np.minimum(values, np.nextafter(edges[-1], 0)), edges.tolist(), color=BLUE, rwidth=0.9)
    axes.axvline(float(np.median(values)), color=INK, linestyle='--', linewidth=1)
    axes.set(title=title, xlabel=f'{unit}, median {np.median(values):.4g}')
    axes.grid(axis='y')
    return figure


def _new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Axes of a size; the figure grows by what lies outside, such as names of any length."""
    figure = Figure((width / 72, height / 72))
    return figure, figure.add_axes((0, 0, 1, 1))


def _row_axes(names: Sequence[str], label: str, row_height: float = ROW) -> tuple[Figure, Axes]:
    """Axes with a row for each name: the first, at 0, on top."""
    figure, axes = _new_axes(WIDTH, row_height * len(names))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.locator_params(axis='x', nbins=5)
    axes.spines['left'].set_visible(False)
    axes.tick_params(axis='y', length=0, pad=10)
    axes.grid(axis='x')
    return figure, axes


def _marker(filled: bool) -> dict[str, Any]:
    style = 'full' if filled else 'none'
    return dict(marker='o', linestyle='', color=BLUE, fillstyle=style, markersize=7, markeredgewidth=1.5)


def _write_right_of(axes: Axes, place: int, words: str) -> None:
    axes.text(1.03, place, words, transform=axes.get_yaxis_transform(), va='center_baseline')


def _legend_above(axes: Axes) -> None:
    axes.legend(loc='lower left', bbox_to_anchor=(0, 1), borderaxespad=0, borderpad=0.3, ncols=2, handlelength=1.5)
