"""The HTML report: what it says, and how a real browser shows it."""

import io
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.benchmark.html_report import CONTROLS, FUSIONS, html_report
from mmgfnuc.benchmark.pictures import Picture
from mmgfnuc.benchmark.scores import SCORES
from mmgfnuc.models.create import list_presets

COMPARED = ('dice', 'aji', 'pq')
NAMES = [
    'unet/none/semantic',
    'unet/concat/vit-tiny/semantic',
    'unet/paper/vit-tiny/semantic',
    'unet/context/vit-tiny/semantic',
    'unet/shuffled-context-image/vit-tiny/semantic',
    'unet/context/vit-tiny:random/semantic',
    'eunet3+/none/semantic',
    'eunet3+/paper/vit-tiny/semantic',
    'eunet3+/context/vit-tiny/semantic',
]
ORGANS = [f'organ {number:02}' for number in range(16)]


def compared(rng, arm, baseline, groups):
    by_group = {group: rng.normal(0.015, 0.02) for group in groups}
    mean = float(np.mean(list(by_group.values())))
    interval = [mean - 0.014, mean + 0.014] if len(groups) > 1 else None
    significant = mean > 0.014 and interval is not None
    spread = f'95% interval {mean - 0.014:+.3f} to {mean + 0.014:+.3f}'
    verdict = 'a significant gain' if significant else 'no significant difference'
    return {
        'arm': arm,
        'baseline': baseline,
        'mean_difference': mean,
        'interval': interval,
        'by_group': by_group,
        'rank_biserial': 0.4,
        'p': 0.01,
        'p_holm': 0.03,
        'significant': significant,
        'words': f'{arm}: Dice {mean:+.3f} against {baseline} ({spread}), better in 11 of {len(groups)} groups, '
        f'rank-biserial r +0.40, p = 0.030 (Wilcoxon over groups, Holm-corrected for 8 arms): {verdict}.',
    }


def made_arm(rng, name, groups, images, gated):
    unet, fusion, *rest = name.split('/')
    encoder = rest[0] if len(rest) > 1 else None
    centre, power = rng.normal(0.7, 0.03), rng.uniform(1, 1.5)
    return {
        'name': name,
        'unet': unet,
        'foundation': encoder,
        'fusion': fusion,
        'weights': 'random' if encoder and 'random' in encoder else None,
        'head': 'semantic',
        'parts': {},
        'scores': {
            score: {'mean': mean, 'interval': [mean - 0.03, mean + 0.03] if len(groups) > 1 else None}
            for score, mean in zip(SCORES, centre - 0.02 * np.arange(len(SCORES)), strict=True)
        },
        'groups': {score: {group: centre + rng.normal(0, 0.05) for group in groups} for score in COMPARED},
        'images': {'dice': np.clip(rng.normal(centre, 0.08, images), 0, 1).tolist()},
        'costs': {
            'parameters': 7_763_000 if encoder else 1_942_000,
            'trained': 2_233_000 if encoder else 1_942_000,
            'macs': 5_400_000_000 if encoder else 3_430_000_000,
            'token_stride': 16.0 if encoder else None,
            'train_seconds': 170 + 300 * rng.random(),
            'train_mb': 1480,
            'inference_seconds': 0.04 + 0.2 * rng.random(),
            'inference_ratio': 1.0 if fusion == 'none' else 2.31,
            'inference_mb': 612,
        },
        'calibration': {
            'bins': [
                {'confidence': place / 15, 'frequency': (place / 15) ** power, 'count': 1000 * (16 - place)}
                for place in range(1, 15)
            ],
            'ece': 0.0312,
            'brier': 0.0871,
        },
        'gates': [made_gate(rng, fusion)] if gated and fusion in ('paper', 'context') else [],
    }


def made_gate(rng, fusion):
    edges, counts = np.linspace(0, 1, 21).tolist(), rng.integers(10, 900, 20).tolist()
    entropy = 0.83 if fusion == 'context' else None
    return {'level': 4, 'mean': 0.48, 'std': 0.11, 'edges': edges, 'counts': counts, 'entropy': entropy}


def made_ranks(rng, names, groups):
    return {
        'average_ranks': dict(zip(names, sorted(rng.uniform(1, len(names), len(names))), strict=True)),
        'num_groups': len(groups),
        'friedman_p': 0.0004,
        'critical_difference': 3.0,
        'cliques': [names[:4], names[2:6]],
    }


def made_chapter(rng, data, names, groups, images, gated=True):
    pairs = [(name, 'unet/none/semantic' if name[:4] == 'unet' else 'eunet3+/none/semantic') for name in names[1:]]
    pairs = [(arm, baseline if arm != baseline else names[0]) for arm, baseline in pairs]
    comparisons = {score: [compared(rng, *pair, groups) for pair in pairs] for score in COMPARED}
    controls = [('unet/context/vit-tiny/semantic', name) for name in names if 'shuffled' in name or ':random' in name]
    return {
        'data': data,
        'source': 'Who 2024, CC0',
        'num_images': images,
        'groups': groups,
        'left_out': {'dice': 0, 'aji': 2, 'pq': 2} if gated else {'dice': 0, 'aji': 0, 'pq': 0},
        'arms': [made_arm(rng, name, groups, images, gated) for name in names],
        'comparisons': comparisons,
        'fusion_gains': {
            score: [row for row in rows if '/none/' not in row['arm']] for score, rows in comparisons.items()
        },
        'controls': {score: [compared(rng, *pair, groups) for pair in controls] for score in COMPARED},
        'ranks': {score: made_ranks(rng, names, groups) if len(names) > 2 else None for score in COMPARED},
        'conclusion': [
            'Of 7 arms with fusion, 2 have a significantly higher Dice than the same U-Net without: '
            'unet/context/vit-tiny/semantic (+0.021, 95 % interval +0.008 to +0.033).',
            f'All this holds for {images} images of {len(groups)} groups and 2 seeds.',
        ],
    }


def made_results(chapters):
    return {
        'title': 'What fusion brings (U-Net and eU-Net3+ of width 16, ViT-Ti/16; CPU budget)',
        'study': {'steps': 300, 'batch_size': 4, 'amp': True, 'seeds': [0, 1], 'splits': ['fold-0', 'fold-1']},
        'provenance': {
            'commits': ['98e2fc1a0b7c4d1e2f3a4b5c6d7e8f9012345678'],
            'versions': {'python': '3.11.2', 'torch': '2.12.1+cpu', 'timm': '1.0.31', 'numpy': '2.4.0'},
            'hardware': ['2 cores of AMD EPYC 9R14'],
            'code_digest': '5d41402abc4b2a76b9719d911017c592ae2b5d41402abc4b2a76b9719d911017',
            'weights': {'vit-tiny': 'f00d'},
            'data_digests': {chapter['data']: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4' for chapter in chapters},
            'command': 'tools/benchmark.py configs/studies/fusions.yaml --engine local --processes 2',
            'date': '2025-11-28',
            'package': '0.1.0',
        },
        'chapters': chapters,
    }


def made_picture(rng, kind, title):
    file = io.BytesIO()
    coarse = Image.fromarray(rng.integers(90, 240, (6, 15, 3), dtype=np.uint8))
    coarse.resize((1200, 480), Image.Resampling.BICUBIC).save(file, 'JPEG', quality=60)
    caption = 'Contours: truth green, prediction yellow. Dice of this image under each picture.'
    return Picture(kind, title, caption, 'Tissue, truth and the predictions of nine arms', file.getvalue(), 1200)


@pytest.fixture(scope='module')
def large():
    """Nine arms, sixteen groups, two data sets, pictures of both."""
    rng = np.random.default_rng(0)
    chapters = [
        made_chapter(rng, 'nuinsseg', NAMES, ORGANS, 112),
        made_chapter(rng, 'cryonuseg', NAMES, ORGANS[:10], 30),
    ]
    pictures = {
        chapter['data']: [
            made_picture(rng, 'features', 'Features of human_liver_07'),
            *(made_picture(rng, 'panel', f'{case} image, human_brain_03') for case in ('Best', 'Median', 'Worst')),
        ]
        for chapter in chapters
    }
    return html_report(made_results(chapters), pictures)


@pytest.fixture(scope='module')
def small():
    """Two arms, one group, no gates, no pictures."""
    rng = np.random.default_rng(0)
    chapter = made_chapter(rng, 'synthetic', NAMES[:2], ['synthetic'], 4, gated=False)
    return html_report(made_results([chapter]), {})


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
    chapter = made_chapter(np.random.default_rng(0), 'synthetic', NAMES[:1], ['synthetic'], 4, gated=False)
    text = html_report(made_results([chapter]), {})
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
    chapter = made_chapter(np.random.default_rng(0), 'nuinsseg', NAMES, ORGANS, 112)
    for arm in chapter['arms']:
        dice, low, high = arm['scores']['dice']['mean'], *arm['scores']['dice']['interval']
        assert f'>{dice:.3f} <small>{low:.3f} to {high:.3f}</small>' in large
        costs = arm['costs']
        assert f'data-value="{costs["train_seconds"]}">{costs["train_seconds"] / 60:.1f}<' in large
        assert f'data-value="{costs["inference_seconds"]}">{1000 * costs["inference_seconds"]:.1f}<' in large
    for row in chapter['comparisons']['pq'] + chapter['controls']['pq']:
        words = re.sub('<[^>]*>', '', large)
        assert row['words'] in unescape(words)
    for title in SCORES.values():
        assert f'<th scope="col">{title}</th>'.replace("'", '&#39;') in large


def test_colours_of_the_groups_follow_the_differences(large):
    chapter = made_chapter(np.random.default_rng(0), 'nuinsseg', NAMES, ORGANS, 112)
    table = large[large.index('<table class="groups">') :]
    table = table[: table.index('</table>')]
    found = re.findall(r'<td class="(gain|loss)" style="--share:([0-9]+)%">[^<]*<small>([+−][0-9.]+)</small>', table)
    arms = {row['arm']: row['by_group'] for row in chapter['comparisons']['dice']}
    expected = [arms[name][organ] for organ in ORGANS for name in NAMES[1:]]
    largest = max(map(abs, expected))
    assert [(kind, int(share)) for kind, share, _ in found] == [
        ('gain' if difference > 0 else 'loss', round(100 * abs(difference) / largest)) for difference in expected
    ]
    assert [text for *_, text in found] == [f'{difference:+.3f}'.replace('-', '−') for difference in expected]


def test_names_are_escaped():
    evil = '<script>alert(1)</script>/"&\'{{ 7 * 7 }}'
    chapter = made_chapter(np.random.default_rng(0), 'nuinsseg', [NAMES[0], evil, f'{evil}2'], [evil, 'brain'], 6)
    chapter['conclusion'] = [evil]
    picture = Picture('panel', evil, evil, evil, b'', 10)
    results = made_results([chapter]) | {'title': evil}
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


@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs Chromium (Debian: apt install chromium)')
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


@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs Chromium (Debian: apt install chromium)')
def test_the_leaderboard_sorts(large, tmp_path):
    arms = made_chapter(np.random.default_rng(0), 'nuinsseg', NAMES, ORGANS, 112)['arms']
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
