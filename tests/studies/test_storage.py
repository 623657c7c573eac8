"""The folder of a run may come from elsewhere: its config is data."""

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.studies.inside import load_trained, read_config
from mmgfnuc.studies.storage import prepare_folder


@pytest.fixture
def folder(runs_of, tmp_path):
    prepare_folder(tmp_path, runs_of()[1])
    return tmp_path


def add(folder, text):
    with (folder / 'config.py').open('a') as file:
        file.write(f'\n{text}\n')


def test_the_config_of_a_run_works_in_its_folder_and_without_a_cache_of_others(folder):
    add(folder, "model = dict(foundation=dict(name='vit-tiny', cache=dict(folder='/x')))")
    config = read_config(folder)
    assert config.work_dir == str(folder)
    assert config.model == {'foundation': {'name': 'vit-tiny'}}


@pytest.mark.parametrize(
    ('added', 'said'),
    [
        ("test_dataloader = dict(dataset=dict(type='os.system', command='false'))", r"type='os\.system'"),
        ("default_scope = 'antigravity'", 'default_scope='),
        ("custom_hooks = [dict(type='mmgfnuc.PredictionHook', show_dir='/x')]", 'show_dir='),
    ],
)
def test_what_it_may_not_name(folder, added, said):
    """The rest of what is refused is that of any config that is read as data."""
    add(folder, added)
    for read in (read_config, load_trained):
        with pytest.raises(UserError, match=rf'config\.py.*{said}'):
            read(folder)
