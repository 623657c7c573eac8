"""Figures draw the numbers that they are given, and fit into a page."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from mmgfnuc.visualization.figures import (
    BLUE,
    VERMILLION,
    Difference,
    calibration_plot,
    difference_plot,
    gate_plot,
    histogram,
    pareto_front,
    pareto_plot,
    score_plot,
)

SVG = '{http://www.w3.org/2000/svg}'
# The second would be a formula to matplotlib, and the third a tag to HTML.
NAMES = ['eunet3+/shuffled-context-image/vit-tiny:random/semantic', 'unet/$concat$/b_2', 'a < b & "c"']


def differences(names, label='gain'):
    rows = [Difference(name, 0.01 * place, (-0.01, 0.02 * place), place > 1) for place, name in enumerate(names)]
    return difference_plot(rows, label)


def scores(names, label='Dice'):
    return score_plot({name: np.random.default_rng(0).beta(8, 2, 30).tolist() for name in names}, label)


def pareto(names, label='Dice'):
    return pareto_plot({name: (1 + place, 0.5 + 0.1 * place) for place, name in enumerate(names)}, 'seconds', label)


def calibration(names, count=5):
    return calibration_plot({name: [(0.1, 0.2, 9), (0.6, 0.5, 0), (0.9, 0.8, count)] for name in names})


def gates(names, count=5):
    return gate_plot({name: ([0, 0.5, 1], [2, count]) for name in names})


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f'{SVG}text')]


def paths(svg, style):
    """Corners of the paths of straight lines whose style has these words."""
    found = [path for path in ElementTree.fromstring(svg).iter(f'{SVG}path') if style in path.get('style', '')]
    return [np.array(re.findall(r'-?[\d.]+', path.get('d')), float).reshape(-1, 2) for path in found]


def markers(svg, colour):
    """Centres of the markers of a colour, in the order in which they are drawn."""
    uses = [use for use in ElementTree.fromstring(svg).iter(f'{SVG}use') if f'stroke: {colour}' in use.get('style', '')]
    return np.array([(float(use.get('x')), float(use.get('y'))) for use in uses])


def assert_on_a_line(positions, values):
    """Positions are linear in the values, to the precision of the SVG, and move with them."""
    slope, start = np.polyfit(values, positions, 1)
    np.testing.assert_allclose(positions, start + slope * np.array(values), atol=0.03)
    assert abs(slope) > 1
    return slope, start


@pytest.mark.slow
@pytest.mark.parametrize('draw', [differences, scores, pareto, calibration, gates])
def test_figure_fits_into_a_page(draw):
    """It grows with the arms, takes the colour of the page, shows names as they are, and shares no id with others."""
    svg, again, other = draw(NAMES), draw(NAMES), draw(NAMES, 7)
    more = 'abcdefghijklmnopqrstuvwxyz' if draw is pareto else 'abc'
    root, large = ElementTree.fromstring(svg), ElementTree.fromstring(draw([*NAMES, *more]))
    assert float(root.get('viewBox').split()[3]) < float(large.get('viewBox').split()[3])
    assert 'width' not in root.attrib
    assert 'currentColor' in svg
    assert not {f'{SVG}style', f'{SVG}metadata', f'{SVG}image'} & {element.tag for element in root.iter()}
    assert not re.search(r'font-family|http://(?!www\.w3\.org)', svg)
    shown = ''.join(texts(svg))
    assert all(name in shown for name in NAMES)
    assert svg == again
    ids = [re.findall(r' id="([^"]+)"', each) for each in (svg, other)]
    assert len(set(ids[0] + ids[1])) == len(ids[0] + ids[1])
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) == set(ids[0])


def test_settings_of_the_user_change_nothing_and_stay():
    plain = differences(NAMES)
    with matplotlib.rc_context({'font.size': 30, 'svg.fonttype': 'path', 'axes.facecolor': 'red'}):
        assert differences(NAMES) == plain
        assert matplotlib.rcParams['font.size'] == 30


def test_differences_stand_at_their_means_and_intervals():
    rows = [
        Difference('worse', -0.02, (-0.05, 0.01), False),
        Difference('single', 0.01, None, False),
        Difference('better', 0.04, (0.03, 0.07), True),
    ]
    svg = difference_plot(rows, 'gain of Dice')
    centres = markers(svg, BLUE)[:3]
    slope, start = assert_on_a_line(centres[:, 0], [row.mean for row in rows])
    assert slope > 0
    assert (np.diff(centres[:, 1]) > 20).all(), 'the first row is on top'
    lines = [line[:, 0] for line in paths(svg, f'stroke: {BLUE}') if len(line) == 2]
    np.testing.assert_allclose(
        lines, [start + slope * np.array(row.interval) for row in rows if row.interval], atol=0.03
    )
    filled = ElementTree.fromstring(svg).iter(f'{SVG}use')
    styles = [use.get('style') for use in filled if f'stroke: {BLUE}' in use.get('style', '')]
    assert [f'fill: {BLUE}' in style for style in styles[:3]] == [False, False, True]
    assert {'gain of Dice', '−0.020 [−0.050, +0.010]', '+0.010'} < set(texts(svg))


def test_boxes_show_quartiles_and_extremes():
    given = {'low': np.linspace(0.1, 0.3, 9), 'high': np.linspace(0.2, 0.9, 8), 'equal': [0.5] * 6}
    svg = score_plot(given, 'Dice')
    boxes = [box[:, 0] for box in paths(svg, 'fill-opacity: 0.4')]
    quartiles = np.array([np.quantile(values, (0.25, 0.75)) for values in given.values()])
    found = np.array([(box.min(), box.max()) for box in boxes])
    slope, start = assert_on_a_line(found.ravel(), quartiles.ravel())
    ends = start + slope * np.array([0.1, 0.3, 0.2, 0.9])
    whiskers = np.concatenate([line[:, 0] for line in paths(svg, f'stroke: {BLUE}') if len(line) == 2])
    assert all(np.isclose(whiskers, end, atol=0.05).any() for end in ends)
    assert {'median 0.200, 9 images', 'median 0.550, 8 images', 'median 0.500, 6 images'} < set(texts(svg))


def test_front_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(200):
        # Few values, so that many are equal.
        points = {str(name): tuple(rng.integers(0, 5, 2).tolist()) for name in range(rng.integers(1, 9))}
        beaten = {
            name
            for name, (time, score) in points.items()
            for other in points.values()
            if other[0] <= time and other[1] >= score and other != (time, score)
        }
        front = pareto_front(points)
        assert set(front) == points.keys() - beaten
        assert len(front) == len(set(front))
        assert [points[name][0] for name in front] == sorted(points[name][0] for name in front)


@pytest.mark.parametrize(('slowest', 'scale'), [(9.0, np.asarray), (200.0, np.log)])
def test_points_stand_at_their_times_and_scores(slowest, scale):
    points = {'fast': (1.0, 0.5), 'bad': (4.0, 0.4), 'best': (6.0, 0.9), 'slow': (slowest, 0.8)}
    svg = pareto_plot(points, 'seconds', 'Dice')
    centres = markers(svg, BLUE)
    times, values = np.array(list(points.values())).T
    assert assert_on_a_line(centres[:, 0], scale(times))[0] > 0
    assert assert_on_a_line(centres[:, 1], values)[0] < 0
    corners = next(line for line in paths(svg, f'stroke: {VERMILLION}') if len(line) > 2)
    fast, _, best, slow = centres
    np.testing.assert_allclose(corners[:4], [fast, (best[0], fast[1]), best, (slow[0], best[1])], atol=0.03)
    names = {text.text: text for text in ElementTree.fromstring(svg).iter(f'{SVG}text') if text.text in points}
    assert {name for name, text in names.items() if 'weight: 700' in text.get('style')} == {'fast', 'best'}
    heights = [float(names[name].get('y')) for name in ('best', 'slow', 'fast', 'bad')]
    assert (np.diff(heights) > 12).all(), 'names do not overlap'


def test_arms_that_take_no_or_equal_time():
    for times in ([0.0, 20.0], [1.0, 1.0]):
        svg = pareto_plot({'a': (times[0], 0.5), 'b': (times[1], 0.5)}, 'seconds', 'Dice')
        assert np.isfinite(markers(svg, BLUE)).all()


def test_calibration_has_a_panel_of_bins_that_have_counts():
    bins = [(0.1, 0.3, 10), (0.5, 0.9, 0), (0.6, 0.5, 40), (0.8, 0.7, 50)]
    svg = calibration_plot({f'arm {number}': bins for number in range(4)})
    curves = [line for line in paths(svg, f'stroke: {BLUE}') if len(line) == 3]
    diagonals = paths(svg, 'dasharray')
    assert len(curves) == len(diagonals) == 4
    for curve, diagonal in zip(curves, diagonals, strict=True):
        # The diagonal runs from (0, 0) to (1, 1).
        shares = (curve - diagonal[0]) / (diagonal[1] - diagonal[0])
        np.testing.assert_allclose(shares, [part[:2] for part in bins if part[2]], atol=3e-4)


def test_gates_are_densities_that_fill_their_rows():
    edges = [0.0, 0.25, 0.5, 1.0]
    svg = gate_plot({'level 0': (edges, [10, 20, 20]), 'level 1': (edges, [0, 0, 4]), 'empty': (edges, [0, 0, 0])})
    rows = paths(svg, 'fill-opacity: 0.5')
    assert [np.ptp(row[:, 1]) for row in rows] == pytest.approx([0.8 * 32, 0.8 * 32, 0], abs=0.03)
    # The last bin is twice as wide as the second: half its density for as many values, that of the first.
    heights = rows[0][:, 1].max() - rows[0][:, 1]
    assert sorted({round(float(height), 1) for height in heights}) == [0.0, 12.8, 25.6]
    assert_on_a_line(sorted(set(rows[0][:, 0])), edges)


def test_bars_count_all_values():
    """Whole numbers in bars of equal numbers of them; outliers in the last one."""
    values = np.repeat(np.arange(11), 10 * np.arange(1, 12))
    bars = paths(histogram([*values, 500, 600], 'Nuclei', 'nuclei'), f'fill: {BLUE}')
    heights = np.array([np.ptp(bar[:, 1]) for bar in bars])
    np.testing.assert_allclose(heights / heights[0], [*range(1, 11), 11.2], rtol=0.01)
    assert 'nuclei, median 7' in texts(histogram(values, 'Nuclei', 'nuclei'))
    assert len(paths(histogram(values / 7, 'Size', 'pixels'), f'fill: {BLUE}')) == 32
