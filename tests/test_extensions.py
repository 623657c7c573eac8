"""Parts of installed packages: loaded where names are looked up, once, each for itself."""

import subprocess
import sys

import pytest

import mmgfnuc
from mmgfnuc.errors import UserError
from mmgfnuc.extensions import import_parts, load_parts
from mmgfnuc.models.foundation import find_entry
from mmgfnuc.presets import read_preset

FRESH = """
import sys
import mmgfnuc
assert 'own_parts' not in sys.modules
from mmgfnuc.presets import list_presets
assert 'unet' in list_presets('unets')
assert 'own_parts' in sys.modules
assert 'torch' not in sys.modules
"""


def test_an_entry_point_is_found_where_names_are_looked_up(own_parts):
    own_parts(entry_point='own_parts')
    assert read_preset('fusion', 'fusion', 'Film')['neck']['block']['type'] == 'own_parts.FilmBlock'
    assert {'own-unet', 'own-encoder'} <= {*mmgfnuc.list_unets(), *mmgfnuc.list_foundation()}
    (own,) = load_parts()
    assert (own.package, own.module, own.problem) == ('own-parts 1.2', 'own_parts', '')
    assert set(own.names) == {'unets own-unet', 'foundation own-encoder', 'fusion film', 'heads own-head'}


def test_the_catalogue_alone_loads_them_too(own_parts):
    own_parts(entry_point='own_parts')
    assert find_entry('own-encoder').arch == 'own_parts.OwnEncoder'


def test_a_look_at_the_package_loads_none(tmp_path):
    (tmp_path / 'own_parts.py').write_text('')
    facts = tmp_path / 'own_parts-1.dist-info'
    facts.mkdir()
    (facts / 'METADATA').write_text('Metadata-Version: 2.1\nName: own-parts\nVersion: 1\n')
    (facts / 'entry_points.txt').write_text('[mmgfnuc.parts]\nanything = own_parts\n')
    (tmp_path / 'script.py').write_text(FRESH)
    run = subprocess.run([sys.executable, '-W', 'error', 'script.py'], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ('registers', 'entry_point', 'said'),
    [
        ('import nosuch', 'broken', 'ModuleNotFoundError: No module named .nosuch.'),
        ('mmgfnuc.register_fusion("add", {"type": FilmBlock})', 'broken', "fusion='add' comes with mmgfnuc"),
        ('raise RuntimeError("one\\ntwo")', 'broken', 'RuntimeError: one$'),
        ('', 'broken:register', 'what is imported is a module'),
        ('', 'gone', "module 'gone' is not found"),
    ],
)
def test_a_broken_package_is_told_and_the_others_are_there(registers, entry_point, said, own_parts):
    own_parts('broken', registers, entry_point)
    own_parts(entry_point='own_parts')
    with pytest.warns(UserWarning, match=f'own parts of broken 1.2 are not there: .*{said}') as caught:
        assert 'film' in mmgfnuc.list_fusions()
    assert '\n' not in str(caught[0].message)
    assert [bool(own.problem) for own in load_parts()] == [own.package.startswith('broken') for own in load_parts()]
    assert len(load_parts()) == 2


def test_a_package_may_ask_for_the_names_that_there_are(own_parts):
    asking = """
        if 'film' not in mmgfnuc.list_fusions():
            mmgfnuc.register_fusion('film', {'type': FilmBlock})
    """
    own_parts(registers=asking, entry_point='own_parts')
    assert 'film' in mmgfnuc.list_fusions()
    assert [own.names for own in load_parts()] == [('fusion film',)]


def test_modules_of_the_working_folder_stand_behind_what_is_installed(own_parts, monkeypatch):
    folder = own_parts(installed=False)
    (folder / 'torch.py').write_text('raise RuntimeError')
    (folder / 'colorsys.py').write_text('raise RuntimeError')
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'path', [place for place in sys.path if place])
    import_parts(['own_parts', 'colorsys', 'torch'])
    assert sys.path[-1] == str(folder)
    assert 'film' in mmgfnuc.list_fusions()
    with pytest.raises(UserError, match=r"module 'own_partz\.x' is not found; start from the folder"):
        import_parts(['own_partz.x'])
    for file, name in (('own_parts.py', 'own_parts'), ('./own/parts', 'own.parts')):
        with pytest.raises(UserError, match=f'is named as a file; name it as an import does: {name}$'):
            import_parts([file])
