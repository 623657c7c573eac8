"""Parts of one's own in studies: whose code makes runs stale, and what their processes import."""

import os
import sys
from itertools import count

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import CATALOGUE, Entry, catalogue
from mmgfnuc.studies.arms import Arm
from mmgfnuc.studies.identity import parts_digest
from mmgfnuc.studies.sources import sources
from mmgfnuc.studies.storage import prepare_folder, run_folder
from mmgfnuc.studies.study import make_study
from mmgfnuc.studies.worker import complete_run

SMALL = {'backbone': {'widths': [4, 8, 16]}}
ENCODER = {'foundation': {'arch': {'embed_dim': 24, 'depth': 2, 'num_heads': 2}, 'out_layers': [-1]}}
FUSED = {'foundation': 'vit-tiny', 'weights': 'random', 'fusion': 'concat'}
BLOCK = '''"""A block."""
from mmgfnuc.models.necks import FusionBlock
from torch import nn

from .helper import SCALE


class FilmBlock(FusionBlock):
    def __init__(self, in_channels, context_channels, attention, max_keys):
        super().__init__()
        self.scale = nn.Linear(context_channels, in_channels)

    def forward(self, local, context, step=None):
        return local * (1 + SCALE * self.scale(context.mean((2, 3)))[..., None, None])
'''
NUMBERS = count()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one's own in the working folder, of a name that no other test has imported."""
    path = tmp_path / f'own_parts_{os.getpid()}_{next(NUMBERS)}'
    path.mkdir()
    files = {
        '__init__': 'from . import blocks, others\n',
        'blocks': BLOCK,
        'helper': 'SCALE = 0.1  # of the change\n',
        'others': 'NUMBER = 1\n',
    }
    for name, text in files.items():
        (path / f'{name}.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    return path


@pytest.fixture
def own_runs(runs_of, package):
    """Runs of two arms, of which the second has the block; they are made anew at every call."""
    kind = f'{package.name}.blocks.FilmBlock'
    own = FUSED | {'parts': SMALL | ENCODER | {'neck': {'block': {'type': kind}}}, 'label': 'film'}
    return lambda **changes: runs_of(
        **{'imports': [package.name], 'arms': [{'parts': SMALL}, own], 'steps': 2} | changes
    )


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_the_code_of_a_block_belongs_to_its_runs_and_to_no_others(own_runs, package):
    """That of a module which it imports too; comments, docstrings and the other modules of its package do not."""
    plain, own = (run.key for run in own_runs())
    edit(package / 'blocks.py', 'A block.', 'A block of my own.')
    edit(package / 'helper.py', '# of', '# part of')
    edit(package / 'others.py', '1', '2')
    (package / '__init__.py').write_text('from . import blocks\n')
    assert [run.key for run in own_runs()] == [plain, own]
    keys = {own}
    for file, before, after in (('blocks', '1 + ', '2 + '), ('helper', '0.1', '0.2')):
        edit(package / f'{file}.py', before, after)
        first, second = (run.key for run in own_runs())
        assert first == plain
        assert second not in keys
        keys.add(second)


def test_what_is_imported_is_no_part_of_a_key(own_runs, runs_of):
    (plain, _), (without,) = own_runs(), runs_of(arms=[{'parts': SMALL}], steps=2)
    assert plain.key == without.key
    assert plain.config['custom_imports']['imports'] == list(plain.imports)


def test_what_an_entry_of_ones_own_says_belongs_to_the_runs_of_its_encoder(package, monkeypatch):
    """And the code of its module, where it is one; the catalogue that comes with the package is known by its code."""
    monkeypatch.setattr('mmgfnuc.models.foundation.catalogue.CATALOGUE', {**CATALOGUE})
    monkeypatch.syspath_prepend(package.parent)
    mean = (0.5, 0.5, 0.5)

    def digest(name, **facts):
        monkeypatch.setitem(catalogue.CATALOGUE, name, Entry(name=name, mean=mean, std=mean, **facts))
        return parts_digest([{'type': 'mmgfnuc.foundation_encoder', 'name': name}])

    first = digest('own-vit', arch='vit_tiny_patch16_224')
    assert len({first, digest('own-vit', arch='vit_small_patch16_224'), digest('own-vit', arch='resnet18'), ''}) == 4
    assert digest('own-vit', arch='vit_tiny_patch16_224') == first
    assert parts_digest({'type': 'mmgfnuc.UNetEncoder', 'conv_type': f'{package.name}.blocks.FilmBlock'}) != ''
    module = dict(arch=f'{package.name}.others.Encoder', encoder='module')
    before = digest('own-module', **module)
    edit(package / 'others.py', '1', '2')
    assert digest('own-module', **module) not in ('', before)
    assert parts_digest({'type': 'mmgfnuc.foundation_encoder', 'name': 'vit-tiny'}) == ''


def test_the_modules_that_a_part_comes_from(tmp_path, monkeypatch):
    files = {
        'deep/__init__.py': 'import deep.unseen',
        'deep/unseen.py': '',
        'deep/level/part.py': 'import json\nfrom .. import near\nfrom ..far import here\nimport beside\nimport torch',
        'deep/near.py': 'from deep.level import *',
        'deep/far.py': 'here = 1\ndef late():\n    from . import later',
        'deep/later.py': 'from deep import level\nimport deep.fast',
        'deep/fast.so': 'not Python',
        'deep/alone.py': '',
        'beside.py': '',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = sources(['deep.level.part'], ('torch',))
    assert sorted(found) == ['beside', 'deep.far', 'deep.fast', 'deep.later', 'deep.level.part', 'deep.near']
    # Where packages are installed, what lies beside one is none of its parts.
    (tmp_path / 'site-packages').mkdir()
    (tmp_path / 'site-packages' / 'lone_part.py').write_text('import lone_other')
    (tmp_path / 'site-packages' / 'lone_other.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path / 'site-packages')
    assert sorted(sources(['lone_part'], ())) == ['lone_part']


def test_a_part_that_a_process_could_not_import(own_runs, package, monkeypatch):
    with pytest.raises(
        UserError, match=r"type='own_parts_\w+\.blocks\.FilmBlock'.*give the study imports: \[own_parts"
    ):
        own_runs(imports=[])
    with pytest.raises(UserError, match=r"module 'none_such'"):
        own_runs(imports=['none_such'])
    monkeypatch.setattr(Arm, '__module__', '__main__')
    with pytest.raises(UserError, match=r'type=Arm: .* from the script that runs'):
        make_study({'title': '', 'arms': [{'foundation': {'type': Arm}, 'fusion': 'concat'}]})
    with pytest.raises(UserError, match="module 'none_such' is not found"):
        parts_digest({'type': 'none_such.Block'})
    with pytest.raises(UserError, match=r'imports=\(1,\): give a list of names of modules'):
        make_study({'title': '', 'arms': [{}], 'imports': [1]})


def test_parts_that_change_while_a_study_runs(own_runs, package, tmp_path):
    _, own = own_runs()
    folder = run_folder(tmp_path / 'runs', own)
    prepare_folder(folder, own)
    edit(package / 'helper.py', '0.1', '0.2')
    with pytest.raises(UserError, match='has changed since the study was started'):
        complete_run(folder, imports=own.imports)
