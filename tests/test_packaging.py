"""The wheel is complete: it works without the repository, configs and tools included."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmgfnuc.datasets.synthetic import write_dataset

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('mmgfnuc', 'configs', 'tools', 'requirements')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'CHANGELOG.md', 'LICENSE')
CACHES = shutil.ignore_patterns('__pycache__', '*.py[cod]')
PIP = (sys.executable, '-m', 'pip', '--disable-pip-version-check')

BUILD = """
import sys
import warnings

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

init_default_scope('mmseg')
assert 'mmgfnuc' not in sys.modules, 'the point is that nobody imports it'
model = MODELS.build(Config.fromfile('model.py').model)
print(type(model).__name__, type(model.backbone).__name__, type(model.decode_head).__name__)

import mmgfnuc

warnings.simplefilter('ignore')
small = {'backbone': {'widths': (4, 8, 16)}}
encoder = {'type': 'mmgfnuc.foundation_encoder', 'name': 'vit-tiny', 'weights': 'random'}
model = mmgfnuc.create_model('UNet', encoder, 'context', parts=small)
print(mmgfnuc.__file__)
print(type(model).__name__, type(model.neck.blocks['2']).__name__)
print(*mmgfnuc.list_unets())
print(*mmgfnuc.list_fusions())
"""


CONFIG = """
model = dict(
    type='mmgfnuc.FusionSegmentor',
    backbone=dict(type='mmgfnuc.UNetEncoder', widths=(8, 16)),
    decode_head=dict(type='mmgfnuc.UNetHead'),
)
"""

# Of finished parts and of a preset; small, for data of tiny tiles.
MINE = """
from mmengine.config import read_base

with read_base():
    from mmgfnuc.configs.demo.demo import *
    from mmgfnuc.configs._base_.heads.boundary import head

model.backbone.update(widths=(4, 8, 16))
model.foundation.arch.update(embed_dim=24, depth=2, num_heads=3, global_attn_indexes=(1,))
model.decode_head = dict(**head, decoder=model.decode_head)
train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
train_dataloader.dataset.pipeline[0].update(size=32)
val_dataloader.update(num_workers=0, persistent_workers=False)
train_cfg.update(max_iters=1, val_interval=1)
"""
LOAD = "from mmgfnuc.engine.config import load_config\nprint(load_config('mine.py').model.decode_head.type)"


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command and return its output; a failure shows both streams."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
    return done.stdout


def shipped(folder: str) -> set[str]:
    """Files below a folder of the repository, as they must appear in the wheel."""
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob('*') if path.is_file())
    return {path.as_posix() for path in paths if '__pycache__' not in path.parts and path.suffix != '.pyc'}


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, in which building leaves its products."""
    source = tmp_path_factory.mktemp('source')
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=CACHES, symlinks=True)
    for file in FILES:
        shutil.copy(ROOT / file, source)
    return source


@pytest.fixture(scope='module')
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the source archive, so that a file missing from either shows."""
    out = tmp_path_factory.mktemp('dist')
    run(sys.executable, 'setup.py', '--quiet', 'sdist', '--dist-dir', out, cwd=source)
    (archive,) = out.glob('*.tar.gz')
    run(*PIP, 'wheel', '--no-deps', '--no-build-isolation', '--no-index', '-w', out, archive, cwd=out)
    (built,) = out.glob('*.whl')
    return built


@pytest.fixture(scope='module')
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed and nothing else."""
    target = tmp_path_factory.mktemp('site')
    run(*PIP, 'install', '--no-deps', '--no-index', '--target', target, wheel, cwd=target)
    return target


@pytest.fixture(scope='module')
def editable(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an editable install of the copy and nothing else: the metadata, and a file that names the copy."""
    target = tmp_path_factory.mktemp('editable')
    build = 'import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])'
    run(sys.executable, '-c', build, target, cwd=source)
    (built,) = target.glob('*.whl')
    zipfile.ZipFile(built).extractall(target / 'site')
    return target / 'site'


@pytest.mark.slow
def test_wheel_holds_the_package_the_configs_and_the_tools(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {name for name in names if '.dist-info/' not in name}
    added = {f'mmgfnuc/{name}' for name in shipped('configs')} | {f'mmgfnuc/.mim/{name}' for name in shipped('tools')}
    assert {'mmgfnuc/.mim/tools/train.py', 'mmgfnuc/configs/cpu/own_data.py'} <= added
    assert files == added | shipped('mmgfnuc')


def test_wheel_metadata(wheel: Path) -> None:
    version = run(sys.executable, '-c', 'import mmgfnuc; print(mmgfnuc.__version__)', cwd=ROOT).strip()
    assert wheel.name == f'mmgfnuc-{version}-py3-none-any.whl'
    with zipfile.ZipFile(wheel) as archive:
        info = f'mmgfnuc-{version}.dist-info'
        metadata = archive.read(f'{info}/METADATA').decode()
        assert any(name.startswith(info) and name.endswith('LICENSE') for name in archive.namelist())
    lines = metadata.splitlines()
    assert 'Requires-Python: >=3.11' in lines
    assert 'Requires-Dist: torch>=2.6' in lines
    assert {f'Provides-Extra: {extra}' for extra in ('tests', 'optional', 'docs', 'ray', 'all')} <= set(lines)


@pytest.mark.slow
def test_models_are_built_outside_the_repository(site: Path, tmp_path: Path) -> None:
    """Of a config of another default scope that names parts of ours, and of presets."""
    (tmp_path / 'model.py').write_text(CONFIG)
    (tmp_path / 'build.py').write_text(BUILD)
    # PYTHONPATH comes before the environment's own packages, hence before an editable install of the repository.
    out = run(sys.executable, 'build.py', cwd=tmp_path, PYTHONPATH=str(site))
    of_config, location, created, unets, fusions = out.splitlines()[-5:]
    assert of_config == 'FusionSegmentor UNetEncoder SemanticHead'
    assert Path(location).is_relative_to(site)
    assert created == 'FusionSegmentor ContextFusionBlock'
    for names, kind in ((unets, 'unets'), (fusions, 'fusion')):
        assert len(names.split()) == len(list((ROOT / 'configs' / '_base_' / kind).glob('*.py')))


def test_shipped_training_tool_starts_outside_the_repository(site: Path, tmp_path: Path) -> None:
    tool = site / 'mmgfnuc' / '.mim' / 'tools' / 'train.py'
    assert 'usage: mmgfnuc train' in run(sys.executable, tool, '--help', cwd=tmp_path, PYTHONPATH=str(site))


def test_console_command_finds_the_configs_outside_the_repository(site: Path, tmp_path: Path) -> None:
    command = [sys.executable, site / 'bin' / 'mmgfnuc', 'check', 'nowhere']
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(site)}, capture_output=True)
    assert (done.returncode, done.stderr[:14]) == (2, b'error: nowhere')
    look = "from mmgfnuc.shipped import find_config; print(find_config('configs/cpu/own_data.py'))"
    found = run(sys.executable, '-c', look, cwd=tmp_path, PYTHONPATH=str(site)).strip()
    assert Path(found) == site / 'mmgfnuc' / 'configs' / 'cpu' / 'own_data.py'


@pytest.mark.slow
def test_a_config_outside_the_repository_inherits_those_of_an_editable_install(
    editable: Path, source: Path, tmp_path: Path
) -> None:
    (tmp_path / 'mine.py').write_text(MINE)
    # The file of an editable install that names the copy is read in folders of packages alone: hence the copy, too.
    out = run(sys.executable, '-c', LOAD, cwd=tmp_path, PYTHONPATH=f'{editable}{os.pathsep}{source}')
    assert 'BoundaryHead' in out


EXAMPLE = ROOT / 'examples' / 'own_parts'
# A language, the title of a block that is a file, its code.
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Elsewhere:
    """The example project in a folder outside of the repository, and installed, beside the wheel."""

    folder: Path
    packages: Path
    path: str

    def run(self, *command: str | Path) -> str:
        return run(sys.executable, *command, cwd=self.folder, PYTHONPATH=self.path)

    def mmgfnuc(self, *arguments: str) -> str:
        console_command = self.path.rpartition(os.pathsep)[2] + '/bin/mmgfnuc'
        return self.run(console_command, *arguments)


@pytest.fixture(scope='module')
def example(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    packages, folder = tmp_path_factory.mktemp('packages'), tmp_path_factory.mktemp('elsewhere') / 'own_parts'
    shutil.copytree(EXAMPLE, folder, ignore=CACHES)
    run(*PIP, 'install', '--no-deps', '--no-build-isolation', '--no-index', '--target', packages, '.', cwd=folder)
    # Only what is installed may be found.
    shutil.rmtree(folder / 'own_parts')
    write_dataset(folder / 'data' / 'synthetic', num_train=4, num_val=2, size=64, seed=0)
    return Elsewhere(folder, packages, f'{packages}{os.pathsep}{site}')


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Language, title and code of the blocks of a page."""
    return BLOCK.findall((ROOT / 'docs' / page).read_text(encoding='utf-8'))


def test_the_page_on_extending_shows_the_files_of_the_example() -> None:
    shown = {title: code for _, title, code in blocks('extending.md') if title}
    files = [path for path in EXAMPLE.rglob('*') if path.suffix in ('.py', '.toml', '.yaml')]
    assert shown == {path.relative_to(EXAMPLE).as_posix(): path.read_text(encoding='utf-8') for path in files}


@pytest.mark.slow
def test_the_example_passes_the_batteries_and_the_code_of_pages_runs(example: Elsewhere) -> None:
    """And a config inherits finished ones; in one process: most of the time is that of the imports."""
    shown = [*blocks('extending.md'), *blocks('getting_started.md')]
    scripts = [code for language, title, code in shown if language == 'python' and not title]
    assert len(scripts) == 4
    tests = "import pytest\nassert not pytest.main(['-q', '-p', 'no:cacheprovider', 'tests'])"
    (example.folder / 'mine.py').write_text(MINE)
    out = example.run('-W', 'ignore', '-c', '\n'.join([*scripts, 'print(mmgfnuc.__file__)', LOAD, tests]))
    assert 'BoundaryHead' in out
    assert example.path.rpartition(os.pathsep)[2] in out
    assert int(re.search('^([0-9]+) passed', out, re.MULTILINE)[1]) > 60


@pytest.mark.slow
def test_the_example_is_found_trained_and_applied_by_its_checkpoint_alone(example: Elsewhere) -> None:
    small = ('train_cfg.max_iters=2', 'model.backbone.widths=(4,6,8)', 'train_dataloader.num_workers=0')
    example.mmgfnuc('train', 'train.py', '--cfg-options', *small, 'train_dataloader.persistent_workers=False')
    checkpoint = 'work_dirs/train/iter_2.pth'
    example.mmgfnuc('predict', 'data/synthetic/images', '--model', checkpoint, '--out', 'results')
    assert len(list((example.folder / 'results' / 'labels').iterdir())) == 6


@pytest.mark.slow
def test_the_example_is_compared_and_a_change_of_its_block_concerns_its_runs_alone(example: Elsewhere) -> None:
    study = (example.folder / 'study.yaml').read_text(encoding='utf-8')
    small = study.replace('[null, zero, shuffled, image]', '[null, zero]')
    assert small != study
    (example.folder / 'small.yaml').write_text(small, encoding='utf-8')
    command = ('benchmark', 'small.yaml', '--steps', '2', '--seeds', '0', '--out', 'work_dirs/study')
    example.mmgfnuc(*command)
    (results,) = (example.folder / 'work_dirs' / 'study').glob('small-*/results.json')
    (data_set,) = json.loads(results.read_text())['data_sets']
    host, fused, control = (arm['name'] for arm in data_set['arms'])
    gains, controls = (
        [(one['arm'], one['baseline']) for one in data_set[key]['dice']] for key in ('comparisons', 'controls')
    )
    assert (fused, host) in gains
    assert controls == [(fused, control)]

    block = example.packages / 'own_parts' / 'film.py'
    code = block.read_text(encoding='utf-8')
    block.write_text(code.replace('local * (1 + scale)', 'local * (2 + scale)'), encoding='utf-8')
    assert example.mmgfnuc(*command, '--status').splitlines()[0] == '3 runs: 1 done, 2 open'


LOOK = """
import site, sys

site.addsitedir(sys.argv[1])
import mmgfnuc

print(mmgfnuc.__file__)
print(*dir(mmgfnuc))
"""


@pytest.mark.parametrize('installed', ['wheel', 'editable'])
def test_a_clone_in_the_working_folder_does_not_hide_the_package(
    site: Path, source: Path, editable: Path, tmp_path: Path, installed: str
) -> None:
    root, path = (source, editable) if installed == 'editable' else (site, site)
    # As `git clone` leaves it: a folder named mmgfnuc, the package inside it.
    work = tmp_path / 'work'
    shutil.copytree(ROOT / 'mmgfnuc', work / 'mmgfnuc' / 'mmgfnuc', ignore=CACHES)
    # Without the environment's own packages, of which one may be this; PYTHONPATH would come before all.
    lines = run(sys.executable, '-S', '-c', LOOK, path, cwd=work, PYTHONPATH='').splitlines()
    assert Path(lines[0]) == root / 'mmgfnuc' / '__init__.py'
    assert {'__version__', 'create_model', 'list_foundation', 'list_fusions', 'list_heads', 'list_unets'} <= set(
        lines[1].split()
    )


def test_every_requirement_is_pinned() -> None:
    def names(file: str) -> set[str]:
        lines = (ROOT / 'requirements' / f'{file}.txt').read_text().splitlines()
        return {line.split('=')[0].split('>')[0] for line in lines if line and not line.startswith('#')}

    asked = names('runtime') | names('tests') | names('optional') | names('docs') | names('ray')
    assert asked <= names('constraints')
    pins = (ROOT / 'requirements' / 'constraints.txt').read_text().splitlines()
    assert all('==' in pin for pin in pins if not pin.startswith('#'))
