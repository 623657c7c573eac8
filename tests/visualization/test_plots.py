import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mmgfnuc.visualization.plots import (
    ForestRow,
    calibration_plot,
    forest_plot,
    gate_plot,
    label_offsets,
    pareto_front,
    pareto_plot,
    violin_plot,
)
from mmgfnuc.visualization.svg import BLUE, VERMILLION

SVG, XLINK = '{http://www.w3.org/2000/svg}', '{http://www.w3.org/1999/xlink}'
# The second would be a formula to matplotlib, and the third a tag to HTML.
NAMES = ['eunet3+/shuffled-context-image/vit-tiny:random/semantic', 'unet/$concat$/b_2', 'a < b & "c"']


def many_names(count):
    return [f'eunet3+/shuffled-context-image/vit-tiny-{number}:random/semantic' for number in range(count)]


def forest(names, label='gain'):
    rows = [ForestRow(name, 0.01 * place, (-0.01, 0.02 * place), place > 1) for place, name in enumerate(names)]
    return forest_plot(rows, label)


def violin(names, label='Dice'):
    return violin_plot({name: np.random.default_rng(0).beta(8, 2, 30).tolist() for name in names}, label)


def pareto(names, label='Dice'):
    return pareto_plot({name: (1 + place, 0.5 + 0.1 * place) for place, name in enumerate(names)}, 'seconds', label)


def calibration(names, count=5):
    return calibration_plot({name: [(0.1, 0.2, 9), (0.6, 0.5, 0), (0.9, 0.8, count)] for name in names})


def gate(names, count=5):
    return gate_plot({name: ([0, 0.5, 1], [2, count]) for name in names})


FIGURES = [forest, violin, pareto, calibration, gate]


def parse(svg):
    return ElementTree.fromstring(svg)


def texts(svg):
    return [element.text for element in parse(svg).iter(f'{SVG}text')]


def titled(svg, name):
    """Groups whose hover text begins with a name."""
    groups = [group for group in parse(svg).iter(f'{SVG}g') if group.find(f'{SVG}title') is not None]
    return [group for group in groups if group.find(f'{SVG}title').text.startswith(name)]


def markers(svg, name):
    """Centres of the markers that a name belongs to."""
    uses = [use for group in titled(svg, name) for use in group.iter(f'{SVG}use')]
    return np.array([(float(use.get('x')), float(use.get('y'))) for use in uses])


def points_of(path):
    """Corners of a path of straight lines."""
    return np.array(re.findall(r'-?[\d.]+', path.get('d')), float).reshape(-1, 2)


def paths_of_colour(svg, colour):
    return [path for path in parse(svg).iter(f'{SVG}path') if f'stroke: {colour}' in path.get('style', '')]


def assert_on_a_line(positions, values):
    """Positions are linear in the values, to the precision of the SVG, and move with them."""
    slope, start = np.polyfit(values, positions, 1)
    np.testing.assert_allclose(positions, start + slope * np.array(values), atol=0.02)
    assert abs(slope) > 1
    return slope, start


def contrast(colour, background):
    """Contrast ratio of WCAG 2."""
    bright, dark = sorted((luminance(colour), luminance(background)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour):
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize('draw', FIGURES)
def test_figure_fits_into_a_page_of_any_colour_and_width(draw):
    svg = draw(NAMES)
    root = parse(svg)
    assert svg.startswith('<svg ')
    assert root.get('role') == 'img'
    assert len(root.get('aria-label')) > 10
    assert 'width' not in root.attrib
    assert root.get('style') == f'width: 100%; max-width: {float(root.get("viewBox").split()[2]):.0f}px; height: auto'
    assert 'currentColor' in svg
    assert not {f'{SVG}style', f'{SVG}metadata', f'{SVG}image'} & {element.tag for element in root.iter()}
    assert not re.search(r'font-family|black|white|#000|#fff|http://(?!www\.w3\.org)', svg)
    # All text has the colour of the page's.
    assert all('fill: currentColor' in element.get('style') for element in root.iter(f'{SVG}text'))
    assert set(re.findall(r'#[0-9a-f]{6}\b', svg)) <= {BLUE, VERMILLION}


@pytest.mark.parametrize('background', ['#ffffff', '#16181d'])
@pytest.mark.parametrize('colour', [BLUE, VERMILLION])
def test_colours_are_seen_on_light_and_dark_pages(colour, background):
    assert contrast(colour, background) > 3.8


@pytest.mark.parametrize('draw', [forest, violin, pareto, gate])
def test_names_are_text_as_they_stand(draw):
    found = texts(draw(NAMES))
    assert all(any(name in text for text in found) for name in NAMES)


def test_panels_have_names_in_lines_of_which_the_upper_are_drawn_last():
    svg = calibration(NAMES)
    for name in NAMES:
        lines = [group.find(f'{SVG}text').text for group in titled(svg, name)]
        assert ''.join(reversed(lines)) == name
        assert max(map(len, lines)) <= 32


@pytest.mark.parametrize('draw', FIGURES)
def test_equal_figures_are_equal_bytes_and_others_share_no_id(draw):
    first, again, other = draw(NAMES), draw(NAMES), draw(NAMES, 7)
    assert first == again
    ids = [[element.get('id') for element in parse(svg).iter() if element.get('id')] for svg in (first, other)]
    assert len(set(ids[0] + ids[1])) == len(ids[0] + ids[1])
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', first)
    assert set(references) == set(ids[0])


@pytest.mark.parametrize('draw', FIGURES)
@pytest.mark.parametrize('count', [3, 20])
def test_figure_grows_with_the_arms_and_no_text_stands_outside(draw, count):
    svg = draw(many_names(count))
    width, height = np.array(parse(svg).get('viewBox').split(), float)[2:]
    for element in parse(svg).iter(f'{SVG}text'):
        # By half a text size a character: narrower than most fonts, so that only what is surely cut is found.
        length = 6 * len(element.text)
        place = re.search(r'translate\((\S+) (\S+)\)', element.get('transform', ''))
        x, y = (float(place[1]), float(place[2])) if place else (float(element.get('x')), float(element.get('y')))
        anchor = re.search('text-anchor: (end|middle)', element.get('style'))
        left = x - length * {'end': 1, 'middle': 0.5}[anchor[1]] if anchor else x
        assert -1 < y < height + 1
        if 'rotate(-90' not in element.get('transform', ''):
            assert left > -1
            assert left + length < width + 1
    assert height > count * (14 if draw is not calibration else 80)


@pytest.mark.parametrize('draw', [forest, violin, gate])
def test_rows_do_not_overlap(draw):
    names = many_names(20)
    rows = sorted(
        float(element.get('y')) for element in parse(draw(names)).iter(f'{SVG}text') if element.text.startswith('eunet')
    )
    assert len(rows) == 20
    assert np.diff(rows).min() > 18


def test_forest_plot_places_means_whiskers_and_the_line_at_no_gain():
    rows = [
        ForestRow('worse', -0.02, (-0.05, 0.01), False),
        ForestRow('single', 0.01, None, False),
        ForestRow('better', 0.04, (0.03, 0.07), True),
    ]
    svg = forest_plot(rows, 'gain of Dice')
    centres = np.concatenate([markers(svg, row.name) for row in rows])
    slope, start = assert_on_a_line(centres[:, 0], [row.mean for row in rows])
    assert slope > 0
    # The first row is on top, rows are equally far apart.
    assert np.allclose(np.diff(centres[:, 1]), 22, atol=0.02)
    whiskers = [points_of(path) for path in paths_of_colour(svg, BLUE) if path.get('d').count('L') == 1]
    expected = [start + slope * np.array(row.interval) for row in rows if row.interval]
    np.testing.assert_allclose([whisker[:, 0] for whisker in whiskers], expected, atol=0.03)
    zero = [points_of(path) for path in paths_of_colour(svg, 'currentColor') if path.get('clip-path')]
    assert any(np.allclose(line[:, 0], start, atol=0.03) for line in zero)
    assert {
        'gain of Dice',
        'significant',
        'not significant',
        '\N{MINUS SIGN}0.0200 [\N{MINUS SIGN}0.0500, +0.0100]',
    } < set(texts(svg))


def test_forest_plot_fills_the_significant_ones_only():
    rows = [ForestRow('sure', 0.1, (0.05, 0.15), True), ForestRow('unsure', 0.1, (-0.05, 0.15), False)]
    svg = forest_plot(rows, 'gain')
    styles = {row.name: next(titled(svg, row.name)[0].iter(f'{SVG}use')).get('style') for row in rows}
    assert f'fill: {BLUE}' in styles['sure']
    assert 'fill: none' in styles['unsure'] or 'fill-opacity: 0' in styles['unsure']


def test_violin_plot_marks_medians_and_quartiles():
    scores = {'low': np.linspace(0.1, 0.3, 9), 'middle': np.linspace(0.2, 0.9, 8), 'few': [0.5, 0.6, 0.9]}
    svg = violin_plot(scores, 'Dice')
    medians = [markers(svg, name)[0, 0] for name in scores]
    slope, start = assert_on_a_line(medians, [0.2, 0.55, 0.6])
    bars = [points_of(path)[:, 0] for path in parse(svg).iter(f'{SVG}path') if 'width: 4' in path.get('style', '')]
    quartiles = [np.quantile(scores[name], (0.25, 0.75)) for name in ('low', 'middle')]
    # The last is in the legend.
    np.testing.assert_allclose(bars[:2], start + slope * np.array(quartiles), atol=0.03)
    assert len(bars) == 3
    assert 'median 0.600, 3 images' in texts(svg)


def test_violins_end_at_the_extreme_scores_and_few_or_equal_scores_are_points():
    scores = {'many': np.linspace(0.2, 0.8, 20), 'few': [0.3, 0.4, 0.7], 'equal': [0.5] * 6}
    svg = violin_plot(scores, 'Dice')
    slope, start = assert_on_a_line([markers(svg, name)[0, 0] for name in ('few', 'many')], [0.4, 0.5])
    violins = [points_of(path) for path in paths_of_colour(svg, BLUE) if path.get('d').count('L') > 50]
    assert len(violins) == 1
    extent = violins[0][:, 0].min(), violins[0][:, 0].max()
    np.testing.assert_allclose(extent, start + slope * np.array([0.2, 0.8]), atol=0.1)
    dots = [float(use.get('x')) for use in parse(svg).iter(f'{SVG}use') if 'fill-opacity: 0.6' in use.get('style')]
    expected = start + slope * np.array(scores['few'] + scores['equal'])
    np.testing.assert_allclose(sorted(dots), sorted(expected), atol=0.1)


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
def test_pareto_plot_places_points_and_front(slowest, scale):
    points = {'fast': (1.0, 0.5), 'bad': (4.0, 0.4), 'best': (6.0, 0.9), 'slow': (slowest, 0.8)}
    svg = pareto_plot(points, 'seconds', 'Dice')
    centres = np.concatenate([markers(svg, name) for name in points])
    times, scores = np.array(list(points.values())).T
    slope, start = assert_on_a_line(centres[:, 0], scale(times))
    assert slope > 0
    assert assert_on_a_line(centres[:, 1], scores)[0] < 0
    corners = next(points_of(path) for path in paths_of_colour(svg, VERMILLION) if path.get('d').count('L') > 1)
    fast, best, slow = centres[0], centres[2], centres[3]
    expected = [fast, (best[0], fast[1]), best, (slow[0], best[1])]
    np.testing.assert_allclose(corners[:4], expected, atol=0.03)
    weights = {element.text: 'font-weight' in element.get('style') for element in parse(svg).iter(f'{SVG}text')}
    assert {name: weights[f'{number}. {name}'] for number, name in enumerate(points, start=1)} == {
        'fast': True,
        'bad': False,
        'best': True,
        'slow': False,
    }


def test_pareto_plot_of_a_study_whose_arms_take_no_or_equal_time():
    for times in ([0.0, 20.0], [1.0, 1.0]):
        svg = pareto_plot({'a': (times[0], 0.5), 'b': (times[1], 0.5)}, 'seconds', 'Dice')
        assert np.isfinite(markers(svg, 'a')).all()


def test_labels_cover_no_marker_and_no_label():
    # Arms that cost nearly the same: a column of points, many in the same place.
    anchors = np.stack([np.full(40, 100.0), np.repeat(np.arange(10), 4) * 3.0], axis=1)
    centres = anchors + label_offsets(anchors, 2)
    for place, centre in enumerate(centres):
        assert all((abs(other - centre) >= (16, 14)).any() for other in np.delete(centres, place, axis=0))
        assert all((abs(anchor - centre) >= (11, 10)).any() for anchor in anchors)


def test_lonely_labels_stand_close_to_their_points():
    anchors = np.array([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0]])
    assert np.hypot(*label_offsets(anchors, 1).T).max() < 15


def test_calibration_plot_draws_a_panel_of_bins_that_have_counts():
    bins = [(0.1, 0.3, 10), (0.5, 0.9, 0), (0.6, 0.5, 40), (0.8, 0.7, 50)]
    svg = calibration_plot({f'arm {number}': bins for number in range(4)})
    curves = [points_of(path) for path in paths_of_colour(svg, BLUE) if path.get('d').count('L') == 2]
    diagonals = [points_of(path) for path in paths_of_colour(svg, 'currentColor') if 'dasharray' in path.get('style')]
    assert len(curves) == len(diagonals) == 4
    for curve, diagonal in zip(curves, diagonals, strict=True):
        # The diagonal runs from (0, 0) to (1, 1).
        shares = (curve - diagonal[0]) / (diagonal[1] - diagonal[0])
        np.testing.assert_allclose(shares, [bin_[:2] for bin_ in bins if bin_[2]], atol=3e-4)
    corners = np.array([diagonal[0] for diagonal in diagonals])
    # Three in a row, the fourth below the first.
    assert len(set(corners[:3, 1])) == 1
    assert np.diff(corners[:3, 0]).min() > 200
    assert corners[3, 0] == corners[0, 0]
    assert corners[3, 1] > corners[0, 1] + 200


def test_gate_plot_draws_densities_that_fill_their_rows():
    edges = [0.0, 0.25, 0.5, 1.0]
    svg = gate_plot({'level 0': (edges, [10, 20, 20]), 'level 1': (edges, [0, 0, 4]), 'empty': (edges, [0, 0, 0])})
    rows = {name: points_of(next(titled(svg, name)[0].iter(f'{SVG}path'))) for name in ('level 0', 'level 1', 'empty')}
    heights = {name: corners[:, 1].max() - corners[:, 1].min() for name, corners in rows.items()}
    assert heights['level 0'] == pytest.approx(0.8 * 32, abs=0.03)
    assert heights['level 1'] == pytest.approx(heights['level 0'], abs=0.03)
    assert heights['empty'] == 0
    # The last bin is twice as wide as the second: half its density for as many values, that of the first.
    base = rows['level 0'][:, 1].max()
    assert sorted({round(float(base - y), 1) for y in rows['level 0'][:, 1]}) == [0.0, 12.8, 25.6]
    assert_on_a_line(sorted(set(rows['level 0'][:, 0])), edges)


def test_gate_plot_of_densities_below_one_fills_its_row():
    svg = gate_plot({'wide': ([0.0, 10.0, 20.0], [1, 2])})
    corners = points_of(next(titled(svg, 'wide')[0].iter(f'{SVG}path')))
    assert np.ptp(corners[:, 1]) == pytest.approx(0.8 * 32, abs=0.03)


def test_settings_of_the_user_change_nothing_and_stay():
    import matplotlib

    plain = forest(NAMES)
    with matplotlib.rc_context({'font.size': 30, 'svg.fonttype': 'path', 'axes.facecolor': 'red'}):
        assert forest(NAMES) == plain
        assert matplotlib.rcParams['font.size'] == 30
