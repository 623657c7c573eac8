"""Two small cells, and what they leave behind when nothing disturbs them."""

from dataclasses import replace

import pytest

from mmgfnuc.datasets import synthetic
from mmgfnuc.studies import run_cells, study_cells
from mmgfnuc.studies.folders import cell_folder
from mmgfnuc.studies.study import make_study

SMALL = {'backbone': {'widths': [4, 8, 16]}}
ENCODER = {'foundation': {'arch': {'embed_dim': 24, 'depth': 2, 'num_heads': 2}, 'out_layers': [-1]}}
FUSED = {'unet': 'unet', 'foundation': 'vit-tiny', 'weights': 'random', 'parts': SMALL | ENCODER}
ARMS = [{'unet': 'unet', 'head': 'hover', 'parts': SMALL}, FUSED | {'fusion': 'context'}]


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('study') / 'data'
    synthetic.write_dataset(root, num_train=4, num_val=2, size=64, seed=0)
    return root


@pytest.fixture(scope='session')
def cells_of(data):
    """Make cells of a study with some settings changed; a checkpoint is saved every 4 of their 10 steps."""

    def make(**changes):
        settings = dict(title='A study', data='synthetic', data_root=str(data), splits=['default'], arms=ARMS)
        cells = study_cells(make_study(settings | dict(steps=10, batch_size=2) | changes))
        return [replace(cell, config=cell.config.replace('interval=200', 'interval=4')) for cell in cells]

    return make


@pytest.fixture(scope='session')
def whole(cells_of, tmp_path_factory):
    """What the cells leave behind when each is run at once: key -> file -> content."""
    root = tmp_path_factory.mktemp('whole') / 'cells'
    cells = cells_of()
    run_cells(cells, root, processes=2)
    return {cell.key: contents(cell_folder(root, cell)) for cell in cells}


@pytest.fixture
def assert_as_whole(whole):
    """Compare the folder of a cell with that of the undisturbed run, by its bytes."""

    def check(folder):
        assert contents(folder) == whole[folder.name]

    return check


def contents(folder):
    """Everything that tells of scores and of the model; not of times."""
    paths = [*folder.glob('test/*.csv'), folder / 'findings.json']
    assert len(paths) == 3
    return {path.name: path.read_bytes() for path in paths}
