"""The folder of a run may come from elsewhere: its config is data."""

import pytest
from mmengine.registry import DATASETS

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


def test_the_config_of_a_run(folder):
    config = read_config(folder)
    assert config.work_dir == str(folder)
    assert config.model.foundation.name == 'vit-tiny'


@pytest.mark.parametrize(
    ('added', 'said'),
    [
        ("test_dataloader = dict(dataset=dict(type='os.system', command='false'))", r"type='os\.system'"),
        ("test_dataloader = dict(dataset=dict(type='mmengine.dataset.BaseDataset', ann_file='x.pkl'))", 'BaseDataset'),
        ("model = dict(type='antigravity')", "type='antigravity'"),
        ("optim_wrapper = dict(constructor='antigravity.X')", 'constructor='),
        ("default_scope = 'antigravity'", 'default_scope='),
        ("visualizer = dict(type='Visualizer', vis_backends=[dict(type='MLflowVisBackend')])", "type='Visualizer'"),
        ("custom_hooks = [dict(type='mmgfnuc.PredictionHook', show_dir='/x')]", 'show_dir='),
    ],
)
def test_what_it_may_not_name(folder, added, said):
    add(folder, added)
    for read in (read_config, load_trained):
        with pytest.raises(UserError, match=rf'config\.py.*{said}'):
            read(folder)


def test_a_cache_is_forgotten(folder):
    add(folder, "model = dict(foundation=dict(cache=dict(folder='/x')))")
    assert read_config(folder).model == {'foundation': {}}


def test_a_part_of_a_package_that_is_imported_counts(folder):
    add(folder, f"test_dataloader = dict(dataset=dict(type='{__name__}.Own'))")
    with pytest.raises(UserError, match='import the package'):
        read_config(folder)
    DATASETS.register_module(name='Own', module=Own)
    try:
        assert read_config(folder).test_dataloader.dataset.type == f'{__name__}.Own'
    finally:
        DATASETS.module_dict.pop('Own')


class Own:
    """A part of another package."""
