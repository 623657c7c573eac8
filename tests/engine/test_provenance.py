import os
import platform
import shutil
import subprocess
from pathlib import Path

import mmcv
import mmengine
import pytest
import timm
import torch

import mmgfnuc
from mmgfnuc.engine import provenance


def test_versions_are_those_that_the_packages_give_themselves():
    versions = provenance.versions()
    for name, module in (('mmgfnuc', mmgfnuc), ('torch', torch), ('timm', timm)):
        assert versions[name] == module.__version__.split('+')[0]
    assert versions['onedl-mmengine'] == mmengine.__version__
    assert versions['onedl-mmcv'] == mmcv.__version__


def test_hardware_names_cores_and_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_name', 'GPU number {}'.format)
    processor, *rest = provenance.hardware().split(', ')
    assert processor
    assert rest == [f'{os.cpu_count()} cores', 'GPU number 0', 'GPU number 1']


def test_hardware_where_the_system_has_no_list_of_processors(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr(Path, 'is_file', lambda path: False)
    monkeypatch.setattr(platform, 'processor', lambda: '')
    monkeypatch.setattr(platform, 'machine', lambda: 'arm64')
    assert provenance.hardware() == f'arm64, {os.cpu_count()} cores'


def git(folder, *arguments):
    identity = ['-c', 'user.name=A', '-c', 'user.email=a@b.c', '-c', 'commit.gpgsign=false']
    done = subprocess.run(['git', *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder in no repository, which the package is said to lie in."""
    folder = tmp_path / 'mmgfnuc'
    folder.mkdir()
    (folder / '__init__.py').write_text('a = 1\n')
    monkeypatch.setattr(mmgfnuc, '__file__', str(folder / '__init__.py'))
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    return folder


needs_git = pytest.mark.skipif(shutil.which('git') is None, reason='git is not installed')


@needs_git
def test_commit_of_the_package_and_not_of_the_working_folder(package, tmp_path, monkeypatch):
    git(tmp_path, 'init', '--quiet')
    git(tmp_path, 'add', 'mmgfnuc')
    git(tmp_path, 'commit', '--quiet', '--message', 'first')
    head = git(tmp_path, 'rev-parse', 'HEAD')
    assert len(head) == 40
    monkeypatch.chdir('/')
    assert provenance.commit() == head
    (package / 'notes.txt').write_text('no part of the package')
    assert provenance.commit() == head
    (package / '__init__.py').write_text('a = 2\n')
    assert provenance.commit() == head + '+changes'


@needs_git
def test_an_installed_package_has_no_commit(package, tmp_path):
    assert provenance.commit() == ''
    # Nor has one that is installed in an environment within another project.
    git(tmp_path, 'init', '--quiet')
    git(tmp_path, 'commit', '--quiet', '--allow-empty', '--message', 'first')
    assert provenance.commit() == ''


def test_without_git_there_is_no_commit(package, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert provenance.commit() == ''
