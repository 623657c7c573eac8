"""Pages: what they say, and that a real browser shows them without network and without errors."""

import json
import re
import shutil
import subprocess
from dataclasses import asdict
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mmgfnuc.datasets.inspection import inspect_dataset
from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.studies.storage import COMPARED, SCORES
from mmgfnuc.visualization.dataset_page import dataset_page
from mmgfnuc.visualization.pages import Gallery
from mmgfnuc.visualization.panels import Panel
from mmgfnuc.visualization.study_page import study_page

# A study of ten arms on one data set.
RESULTS = (Path(__file__).parents[2] / 'docs/results/studies/fusions/results.json').read_text()
EVIL = '<script>alert(1)</script>/"&\'{{ 7 * 7 }}'
SECTIONS = [
    'Scores and costs',
    'Differences to the baseline',
    'Differences to the controls',
    'Spread over images',
    'Score against time',
    'Scores of the groups',
    'Calibration',
    'Gates',
    'Pictures',
]


class Page(HTMLParser):
    """Tags with their attributes, texts of headings, and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.titles = [], '', []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words += data
        if self.tags and self.tags[-1][0] in ('h2', 'h3') and data.strip():
            self.titles.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def gallery(name):
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    features = [Panel(pixels[:16, :16], [f'{name} {number}', 'Dice 0.5']) for number in range(5)]
    galleries = [
        Gallery.of(name, name, features, 4, {name: (0, 158, 115)}),
        Gallery.of(name, name, [Panel(pixels)], 1, {}),
    ]
    return [Gallery(**each) for each in json.loads(json.dumps([asdict(each) for each in galleries]))]


def results_of(text=RESULTS):
    results = json.loads(text)
    return results, results['data_sets']


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    """A study of many arms; one of single arms on one group each, with nothing else; and a data set."""
    large, _ = results_of()
    small, data_sets = results_of()
    data_sets.append(data_sets[0] | {'data': 'other'})
    for place, data in enumerate(data_sets):
        data['arms'], data['groups'] = [data['arms'][place] | {'gates': []}], data['groups'][:1]
        data['comparisons'] = data['controls'] = {score: [] for score in COMPARED}
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    write_dataset(root, num_train=6, num_val=2, size=96, seed=0)
    return {
        'large': study_page(large, {'nuinsseg': gallery('a')}, SCORES, COMPARED),
        'small': study_page(small, {}, SCORES, COMPARED),
        'data': dataset_page(inspect_dataset(root), 5),
    }


@pytest.mark.slow
def test_what_has_nothing_to_show_is_left_out(pages):
    large, small = Page(pages['large']), Page(pages['small'])
    alone = [SECTIONS[0], SECTIONS[3], SECTIONS[6]]
    assert large.titles[1:] == ['nuinsseg', *SECTIONS, 'Provenance']
    assert small.titles[-9:] == ['nuinsseg', *alone, 'other', *alone, 'Provenance']
    assert 'With fewer than six groups there is no interval and no verdict' in small.words


def test_numbers_stand_in_the_page(pages):
    _, (data,) = results_of()
    page = Page(pages['large'])
    for arm in data['arms']:
        dice, low, high = arm['scores']['dice']['mean'], *arm['scores']['dice']['interval']
        assert f'{dice:.3f} {low:.3f} to {high:.3f}' in page.words
        assert f'{arm["costs"]["train_seconds"] / 60:.1f}' in page.words
    for row in data['comparisons']['pq'] + data['controls']['pq']:
        assert row['words'] in page.words
    assert all(title in page.words for title in SCORES.values())


@pytest.mark.slow
def test_pages_load_nothing_and_their_links_lead_somewhere(pages):
    for text in pages.values():
        page = Page(text)
        ids = [attributes['id'] for _, attributes in page.tags if 'id' in attributes]
        assert len(ids) == len(set(ids))
        for tag, attributes in page.tags:
            for name in {'src', 'href', 'xlink:href', 'srcset', 'data', 'action'} & attributes.keys():
                assert attributes[name].startswith(('data:', '#'))
                assert tag != 'a' or attributes[name][1:] in ids
        assert not re.search(r'@import|url\((?!#)', text)
        assert all('alt' in image for image in page.all('img'))


@pytest.mark.slow
def test_names_are_escaped():
    """Of data sets, groups, arms, the study and its pictures, and what stands in its record."""
    text = RESULTS
    for name in ('nuinsseg', 'human liver', 'unet/concat', 'What fusion brings', 'python tools'):
        text = text.replace(name, json.dumps(EVIL)[1:-1])
    results, (data,) = results_of(text)
    text = study_page(results, {data['data']: gallery(EVIL)}, SCORES, COMPARED)
    assert '<script>alert' not in text
    page = Page(text)
    assert not page.all('script')
    assert page.words.count('{{ 7 * 7 }}') > 20
    assert page.all('img')[0]['alt'] == f'{EVIL} 0, Dice 0.5'


QUESTION = """<script>addEventListener('load', () => parent.postMessage({
  name: document.title,
  widths: [document.documentElement.scrollWidth, innerWidth],
  figures: [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 200).length,
  pictures: [...document.images].filter(image => image.naturalWidth).length,
  requests: performance.getEntriesByType('resource').map(entry => entry.name).filter(name => !name.startsWith('data:')),
}, '*'));</script>"""
AROUND = """<!DOCTYPE html>{frames}
<script>addEventListener('message', event => document.body.append(
  Object.assign(document.createElement('pre'), {{textContent: JSON.stringify(event.data)}})));</script>"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs Chromium (Debian: apt install chromium)')
def test_a_browser_shows_the_pages(pages, tmp_path):
    """On a phone and on a wide screen: all there, nothing asked for, no error, no scrolling sideways."""
    frames = ''
    for name, text in pages.items():
        # The pages themselves have no script; the question is the test's.
        text = text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
        text = re.sub('<title>.*</title>', f'<title>{name}</title>', text).replace('</body>', f'{QUESTION}</body>')
        (tmp_path / f'{name}.html').write_text(text)
        frames += ''.join(
            f'<iframe src="{name}.html" width="{w}" height="900" style="border:0"></iframe>' for w in (360, 1600)
        )
    (tmp_path / 'around.html').write_text(AROUND.format(frames=frames))
    command = [
        'chromium', '--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--window-size=1800,1000',
        '--virtual-time-budget=5000', '--host-resolver-rules=MAP * ~NOTFOUND', '--dump-dom',
        (tmp_path / 'around.html').as_uri(),
    ]  # fmt: skip
    browser = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert re.findall('.*CONSOLE.*', browser.stderr) == []
    answers = [json.loads(unescape(answer)) for answer in re.findall('<pre>(.*?)</pre>', browser.stdout)]
    assert sorted((answer['name'], answer['widths'][1]) for answer in answers) == [
        (name, width) for name in sorted(pages) for width in (360, 1600)
    ]
    for answer in answers:
        text = pages[answer['name']]
        assert answer['requests'] == []
        assert answer['widths'][0] <= answer['widths'][1]
        assert answer['figures'] == text.count('<svg')
        assert answer['pictures'] == text.count('<img')
