"""The HTML report: what it says, and how a real browser shows it."""

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from mmgfnuc.presets import list_presets
from mmgfnuc.studies.html_report import CONTROLS, FUSIONS, html_report
from mmgfnuc.studies.pictures import Picture
from mmgfnuc.studies.storage import SCORES

from .made_results import NAMES, ORGANS, made_data_set, made_picture, made_results

needs_chromium = pytest.mark.skipif(
    shutil.which('chromium') is None, reason='needs Chromium (Debian: apt install chromium)'
)


@pytest.fixture(scope='module')
def large():
    """Nine arms, sixteen groups, two data sets, pictures of both."""
    rng = np.random.default_rng(0)
    data_sets = [
        made_data_set(rng, 'nuinsseg', NAMES, ORGANS, 112),
        made_data_set(rng, 'cryonuseg', NAMES, ORGANS[:10], 30),
    ]
    pictures = {
        data_set['data']: [
            made_picture(rng, 'features', 'Features of human_liver_07'),
            *(made_picture(rng, 'panel', f'{case} image, human_brain_03') for case in ('Best', 'Median', 'Worst')),
        ]
        for data_set in data_sets
    }
    return html_report(made_results(data_sets), pictures)


@pytest.fixture(scope='module')
def small():
    """Two arms, one group, no gates, no pictures."""
    rng = np.random.default_rng(0)
    data_set = made_data_set(rng, 'synthetic', NAMES[:2], ['synthetic'], 4, gated=False)
    return html_report(made_results([data_set]), {})


class Page(HTMLParser):
    """Addresses that a browser would load, ids, targets inside the page, and tables."""

    LOADING = {'src', 'srcset', 'data', 'poster', 'action', 'xlink:href'}

    def __init__(self, text):
        super().__init__()
        self.loaded, self.ids, self.targets, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        for name, value in attributes:
            if name in self.LOADING or (name == 'href' and tag != 'a'):
                self.loaded.append(value)
            elif name == 'href':
                self.targets.append(value.removeprefix('#'))
            elif name == 'id':
                self.ids.append(value)

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def titles(text):
    """Headings of the sections of a report, without the scores."""
    return [unescape(title) for title in re.findall(r'<h[23] id="[^"]*"><a [^>]*>([^<]*)</a>', text)]


SECTIONS = [
    'Leaderboard',
    'Gains of fusion',
    'Arms without fusion',
    'Against the controls',
    'Spread over images',
    'Score against time',
    'Scores of the groups',
    'Ranks',
    'Calibration',
    'Gates',
    'Features before and after fusion',
    'Best, median and worst images',
]


def test_sections_come_in_the_order_of_a_reviewer(large):
    start = ['Conclusion', 'How to read it', 'Arms and controls']
    assert titles(large) == [*start, 'nuinsseg', *SECTIONS, 'cryonuseg', *SECTIONS, 'Provenance']


def test_what_has_nothing_to_show_is_left_out_with_its_entry(small):
    shown = ['Leaderboard', 'Gains of fusion', 'Spread over images', 'Score against time', 'Calibration']
    assert titles(small) == ['Conclusion', 'How to read it', 'Arms and controls', 'synthetic', *shown, 'Provenance']
    contents = small[small.index('<nav') : small.index('</nav>')]
    assert re.findall('<a [^>]*>([^<]*)</a>', contents) == titles(small)
    assert 'With one group there is no interval and no test' in small


def test_one_arm_has_nothing_to_compare():
    data_set = made_data_set(np.random.default_rng(0), 'synthetic', NAMES[:1], ['synthetic'], 4, gated=False)
    text = html_report(made_results([data_set]), {})
    assert 'One arm: there is nothing to compare it with.' in text
    assert 'Score against time' not in text


@pytest.mark.parametrize('report', ['large', 'small'])
def test_a_page_loads_nothing_and_its_links_lead_somewhere(report, request):
    text = request.getfixturevalue(report)
    page = Page(text)
    assert not [address for address in page.loaded if not address.startswith(('data:', '#'))]
    assert not re.search(r'@import|url\((?!#)', text)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.targets) <= set(page.ids)
    assert len(page.targets) > 10


def test_figures_tables_and_pictures_are_accessible(large):
    page = Page(large)
    figures = 2 * (3 * (2 + 1) + 4)  # two forests and the ranks of three scores, and four others
    assert sum(attributes.get('role') == 'img' for tag, attributes in page.tags if tag == 'svg') == figures
    pictures = [attributes for tag, attributes in page.tags if tag == 'img']
    assert len(pictures) == 2 * 4
    assert all(picture['alt'] for picture in pictures)
    assert page.count('figcaption') == page.count('figure') == figures + len(pictures)
    assert page.count('caption') == page.count('table')
    assert all('scope' in attributes for tag, attributes in page.tags if tag == 'th')
    assert [page.count(tag) for tag in ('header', 'nav', 'main', 'footer', 'h1')] == [1] * 5


def test_numbers_stand_in_the_page(large):
    data_set = made_data_set(np.random.default_rng(0), 'nuinsseg', NAMES, ORGANS, 112)
    for arm in data_set['arms']:
        dice, low, high = arm['scores']['dice']['mean'], *arm['scores']['dice']['interval']
        assert f'>{dice:.3f} <small>{low:.3f} to {high:.3f}</small>' in large
        costs = arm['costs']
        assert f'data-value="{costs["train_seconds"]}">{costs["train_seconds"] / 60:.1f}<' in large
        assert f'data-value="{costs["inference_seconds"]}">{1000 * costs["inference_seconds"]:.1f}<' in large
    for row in data_set['comparisons']['pq'] + data_set['controls']['pq']:
        words = re.sub('<[^>]*>', '', large)
        assert row['words'] in unescape(words)
    for title in SCORES.values():
        assert f'<th scope="col">{title}</th>'.replace("'", '&#39;') in large


def test_colours_of_the_groups_follow_the_differences(large):
    data_set = made_data_set(np.random.default_rng(0), 'nuinsseg', NAMES, ORGANS, 112)
    table = large[large.index('<table class="groups">') :]
    table = table[: table.index('</table>')]
    found = re.findall(r'<td class="(gain|loss)" style="--share:([0-9]+)%">[^<]*<small>([+−][0-9.]+)</small>', table)
    arms = {row['arm']: row['by_group'] for row in data_set['comparisons']['dice']}
    expected = [arms[name][organ] for organ in ORGANS for name in NAMES[1:]]
    largest = max(map(abs, expected))
    assert [(kind, int(share)) for kind, share, _ in found] == [
        ('gain' if difference > 0 else 'loss', round(100 * abs(difference) / largest)) for difference in expected
    ]
    assert [text for *_, text in found] == [f'{difference:+.3f}'.replace('-', '−') for difference in expected]


def test_names_are_escaped():
    evil = '<script>alert(1)</script>/"&\'{{ 7 * 7 }}'
    data_set = made_data_set(np.random.default_rng(0), 'nuinsseg', [NAMES[0], evil, f'{evil}2'], [evil, 'brain'], 6)
    data_set['conclusion'] = [evil]
    picture = Picture('panel', evil, evil, evil, b'', 10)
    results = made_results([data_set]) | {'title': evil}
    results['provenance']['command'] = evil
    text = html_report(results, {'nuinsseg': [picture]})
    assert '<script>alert' not in text
    assert '{{ 7 * 7 }}' in text
    page = Page(text)
    assert page.count('script') == 1
    assert [attributes['alt'] for tag, attributes in page.tags if tag == 'img'] == [evil]


def test_every_fusion_is_explained():
    assert set(list_presets('fusion')) == {*FUSIONS, *CONTROLS}


# What a browser is asked once the page is there; the answer goes to the page around it.
QUESTION = """<script>
function order() {
  return [...document.querySelector('.sortable').tBodies[0].rows].map(row => row.cells[0].dataset.value);
}
function press(column) {
  const heading = document.querySelector('.sortable').tHead.rows[0].cells[column];
  heading.querySelector('button').click();
  return [heading.getAttribute('aria-sort'), order()];
}
addEventListener('load', () => parent.postMessage({
  widths: [document.documentElement.scrollWidth, innerWidth],
  figures: [...document.querySelectorAll('figure svg')].filter(svg => svg.getBoundingClientRect().width > 200).length,
  pictures: [...document.images].filter(image => image.naturalWidth).length,
  requests: performance.getEntriesByType('resource').map(entry => entry.name).filter(name => !name.startsWith('data:')),
  ground: getComputedStyle(document.body).backgroundColor,
  first: order(),
  presses: [press(1), press(0), press(0), press(7), press(7)],
}, '*'));
</script>"""
AROUND = """<!DOCTYPE html>
<iframe src="page.html" width="360" height="900" style="border:0"></iframe>
<iframe src="page.html" width="1600" height="900" style="border:0"></iframe>
<script>addEventListener('message', event => document.body.append(
  Object.assign(document.createElement('pre'), {textContent: JSON.stringify(event.data)})));</script>"""


def opened(folder, text, *switches):
    """Open a page, narrow and wide, in a real browser: its answers by width, and what the browser's console says."""
    (folder / 'page.html').write_text(text.replace('</body>', f'{QUESTION}</body>'))
    (folder / 'around.html').write_text(AROUND)
    command = [
        'chromium', '--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--window-size=1800,1000',
        '--virtual-time-budget=5000', '--host-resolver-rules=MAP * ~NOTFOUND', *switches, '--dump-dom',
        (folder / 'around.html').as_uri(),
    ]  # fmt: skip
    browser = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    answers = [json.loads(unescape(answer)) for answer in re.findall('<pre>(.*?)</pre>', browser.stdout)]
    return {answer['widths'][1]: answer for answer in answers}, re.findall('.*CONSOLE.*', browser.stderr)


@needs_chromium
@pytest.mark.parametrize('report', ['large', 'small'])
@pytest.mark.parametrize(('scheme', 'ground'), [(1, 'rgb(255, 255, 255)'), (0, 'rgb(22, 24, 29)')])
def test_a_browser_shows_the_page(report, scheme, ground, request, tmp_path):
    """Light (1) and dark (0), as a phone and as a wide screen: all there, nothing asked for, no scrolling sideways."""
    text = request.getfixturevalue(report)
    answers, console = opened(tmp_path, text, f'--blink-settings=preferredColorScheme={scheme}')
    assert console == []
    assert set(answers) == {360, 1600}
    for width, answer in answers.items():
        assert answer['requests'] == []
        assert answer['widths'][0] <= width
        assert answer['figures'] == text.count('<svg')
        assert answer['pictures'] == text.count('<img')
        assert answer['ground'] == ground


@needs_chromium
def test_the_leaderboard_sorts(large, tmp_path):
    arms = made_data_set(np.random.default_rng(0), 'nuinsseg', NAMES, ORGANS, 112)['arms']
    by_dice = sorted(NAMES, key=lambda name: -arms[NAMES.index(name)]['scores']['dice']['mean'])
    answers, _ = opened(tmp_path, large)
    answer = answers[1600]
    assert answer['first'] == by_dice
    dice, names, names_again, stride, stride_again = answer['presses']
    assert dice == ['ascending', by_dice[::-1]]
    assert names[0] == 'ascending'
    assert sorted(names[1]) == names[1] == names_again[1][::-1]
    assert names_again[0] == 'descending'
    # Arms without an encoder have no token stride: they come last in both directions.
    for order in (stride, stride_again):
        assert {name.split('/')[1] for name in order[1][-2:]} == {'none'}
    assert [stride[0], stride_again[0]] == ['ascending', 'descending']
