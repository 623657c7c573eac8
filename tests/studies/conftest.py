"""Two small runs, and what they leave behind when nothing disturbs them."""

import pytest

from mmgfnuc.datasets import synthetic
from mmgfnuc.studies import run_all, study_runs
from mmgfnuc.studies.storage import run_folder
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
def runs_of(data):
    """Make runs of a study with some settings changed; a checkpoint is saved every 4 of their 10 steps."""

    def make(**changes):
        settings = dict(title='A study', data='synthetic', data_root=str(data), splits=['default'], arms=ARMS)
        runs = study_runs(make_study(settings | dict(steps=10, batch_size=2) | changes), data.parent / 'runs')
        for run in runs:
            run.config['default_hooks']['checkpoint']['interval'] = 4
        return runs

    return make


@pytest.fixture(scope='session')
def whole(runs_of, tmp_path_factory):
    """What the runs leave behind when each is run at once: key -> file -> content."""
    root = tmp_path_factory.mktemp('whole') / 'runs'
    runs = runs_of()
    run_all(runs, root, processes=2)
    return {run.key: contents(run_folder(root, run)) for run in runs}


@pytest.fixture
def assert_as_whole(whole):
    """Compare the folder of a run with that of the undisturbed run, by its bytes."""

    def check(folder):
        assert contents(folder) == whole[folder.name]

    return check


def contents(folder):
    """Everything that tells of scores and of the model; not of times."""
    paths = [*folder.glob('test/*.csv'), *folder.glob('inside-*.json')]
    assert len(paths) == 3
    return {path.name: path.read_bytes() for path in paths}
