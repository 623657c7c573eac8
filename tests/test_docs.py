"""The pages of docs/: their links, their navigation, code of training.md, and the site that is built of them."""

import inspect
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from mmengine.runner import Runner

import mmgfnuc
from mmgfnuc import engine, evaluation, postprocess, testing
from mmgfnuc.datasets import transforms
from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.evaluation import functional
from mmgfnuc.models import backbones, decode_heads, foundation, necks

ROOT = Path(__file__).parent.parent
DOCS = ROOT / 'docs'
REPORT = 'report.html'
PAGES = sorted(DOCS.rglob('*.md'))
TEXTS = [*PAGES, *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'))]
# Headings that the API reference makes of objects: `make docs` checks them.
OF_OBJECTS = 'mmgfnuc.'
FENCE = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
BLOCK = re.compile(r'^```(python|bash)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def anchors(page):
    """What GitHub and MkDocs both make of the headings: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r'^#+ (.+)$', FENCE.sub('', page.read_text(encoding='utf-8')), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    broken = []
    for link in LINK.findall(FENCE.sub('', page.read_text(encoding='utf-8'))):
        path, _, anchor = link.partition('#')
        if '://' in link or link.startswith('mailto:'):
            continue
        target = page.parent / path if path else page
        known = target.suffix != '.md' or not anchor or anchor.startswith(OF_OBJECTS)
        if not target.exists() or not (known or anchor in anchors(target)):
            broken.append(link)
    assert not broken


def nav_pages(entry):
    if isinstance(entry, str):
        return [entry]
    return [page for child in (entry.values() if isinstance(entry, dict) else entry) for page in nav_pages(child)]


def test_the_navigation_lists_every_page_once():
    config = yaml.safe_load((ROOT / 'mkdocs.yml').read_text(encoding='utf-8'))
    assert sorted(nav_pages(config['nav'])) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@pytest.mark.slow
def test_the_models_of_another_project_train(tmp_path):
    """The section of training.md: MMSegmentation's parts here, and ours in its segmentor, for two steps of a runner."""
    text = (DOCS / 'training.md').read_text(encoding='utf-8')
    section = text.partition('## In another MMSegmentation project\n')[2].partition('\n## ')[0]
    here, there, nuclei = ({} for _ in range(3))
    for names, (_, _, code) in zip((here, there, nuclei), BLOCK.findall(section), strict=True):
        exec(code, names)
    write_dataset(tmp_path / 'own', num_train=2, num_val=1, size=80, seed=0)
    there['train_dataset']['data_root'] = str(tmp_path / 'own')
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True))
    models = []
    for scope, model in (('mmengine', here['model']), ('mmseg', there['model'])):
        runner = Runner(
            model=model,
            default_scope=scope,
            work_dir=str(tmp_path / scope),
            train_dataloader=loader | {'dataset': there['train_dataset']},
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            experiment_name=scope,
        )
        models.append(runner.train().eval())
        batch = next(iter(runner.train_dataloader))
    assert [type(model).__name__ for model in models] == ['FusionSegmentor', 'EncoderDecoder']
    assert [sample.pred_instance_map.data.shape for sample in nuclei['add_nuclei'](models[1], batch)] == [
        (1, 64, 64)
    ] * 2


class Loaded(HTMLParser):
    """Addresses of what a browser loads with a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == 'link' and values.get('rel') not in ('canonical', 'next', 'prev'):
            self.addresses.append(values['href'])
        elif tag != 'a' and 'src' in values:
            self.addresses.append(values['src'])


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    if find_spec('mkdocs') is None:
        pytest.skip('MkDocs is not installed (requirements/docs.txt)')
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_the_network(site):
    pages = [page for page in sorted(site.rglob('*.html')) if page.name != REPORT]
    assert len(pages) == len(PAGES) + 1  # and the one for addresses that do not exist
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding='utf-8'))
        assert len(loaded.addresses) > 3
        # 404.html is served at any depth, so its addresses start at the root.
        for address in loaded.addresses if page.name != '404.html' else []:
            assert (page.parent / address.partition('#')[0]).is_file(), f'{page.name}: {address}'
    for sheet in site.rglob('*.css'):
        assert not re.search(r'@import|url\(\s*[\'"]?(https?:)?//', sheet.read_text(encoding='utf-8')), sheet.name


@pytest.mark.slow
def test_reports_of_studies_hold_all_they_need(site):
    """They are copied into the site as they are."""
    reports = sorted(site.rglob(REPORT))
    assert len(reports) == len(list((DOCS / 'results' / 'studies').iterdir())) > 0
    for report in reports:
        loaded = Loaded()
        loaded.feed(report.read_text(encoding='utf-8'))
        assert loaded.addresses
        assert all(address.startswith('data:') for address in loaded.addresses)


@pytest.mark.slow
def test_the_api_reference_has_what_the_package_exports(site):
    text = (site / 'api.html').read_text(encoding='utf-8')
    for module in (
        functional,
        evaluation,
        postprocess,
        transforms,
        backbones,
        foundation,
        necks,
        decode_heads,
        testing,
    ):
        objects = {name: getattr(module, name) for name in module.__all__}
        shown = {name: value for name, value in objects.items() if inspect.isclass(value) or inspect.isfunction(value)}
        assert shown
        for name, value in shown.items():
            assert any(f'id="{place}.{name}"' in text for place in (module.__name__, value.__module__)), name
    for name in ('SeededSampler', *engine.__all__):
        assert re.search(rf'id="mmgfnuc\.[\w.]*\.{name}"', text), name
    assert all(re.search(rf'id="mmgfnuc\.[\w.]*\.{name}"', text) for name in mmgfnuc.__all__)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs Chromium (Debian: apt install chromium)')
def test_search_works_from_a_folder_without_network(site):
    """A real browser, the page opened as a file: a word that one page alone has."""
    switches = ['--headless', '--no-sandbox', '--disable-gpu', '--virtual-time-budget=10000', '--enable-logging=stderr']
    address = (site / 'datasets' / 'coco.html').as_uri() + '?q=PatchMixer'
    command = ['chromium', *switches, '--host-resolver-rules=MAP * ~NOTFOUND', '--dump-dom', address]
    browser = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert '1 matching document' in browser.stdout
    assert re.search(r'<a [^>]*href="[^"]*/extending\.html[^"]*"[^>]*class="md-search-result__link"', browser.stdout)
    assert 'CONSOLE' not in browser.stderr
