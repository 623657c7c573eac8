"""Settling a config, without running anything; the runs themselves are in tests/tools."""

import errno
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.engine import launch
from mmgfnuc.engine.config import load_config, set_seed, use_bfloat16
from mmgfnuc.engine.logs import end_logs_at_full_disk
from mmgfnuc.engine.tested import read_tested, write_tested
from mmgfnuc.engine.trackers import add_tensorboard
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation import NucleiInstanceMetric, NucleiSemanticMetric
from mmgfnuc.files import output_lock
from mmgfnuc.registry import DATASETS

DEMO = Path(__file__).resolve().parents[2] / 'configs' / 'demo' / 'demo.py'
PREPROCESSING = {'mpp': 0.5, 'classes': ['background', 'nucleus'], 'palette': [[0, 0, 0], [0, 158, 115]], 'stains': []}
NO_PARTS = {'model': None, 'test_dataloader': SimpleNamespace(dataset=None)}


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    write_dataset(root, num_train=1, num_val=1, size=64, seed=0)
    return root


@pytest.fixture
def cfg(data_root):
    paths = {f'{part}_dataloader.dataset.data_root': str(data_root) for part in ('train', 'val', 'test')}
    return load_config(str(DEMO), {**paths, 'train_dataloader.dataset.pipeline.0.size': 32})


def test_working_folder(tmp_path):
    assert load_config(str(DEMO)).work_dir == 'work_dirs/demo'
    assert load_config(str(DEMO), {'work_dir': 'mine'}).work_dir == 'mine'
    assert load_config(str(DEMO), {'work_dir': 'mine'}, 'given').work_dir == 'given'


def test_what_the_options_set_can_be_read_back_from_a_checkpoint(cfg):
    set_seed(cfg, 3)
    use_bfloat16(cfg)
    add_tensorboard(cfg)
    carried = Config.fromstring(cfg.pretty_text, file_format='.py')
    assert carried.randomness.seed == 3
    assert carried.optim_wrapper.type == 'mmgfnuc.BFloat16OptimWrapper'
    assert [backend.type for backend in carried.visualizer.vis_backends] == ['LocalVisBackend', 'TensorboardVisBackend']


def sample(cfg, seed):
    set_seed(cfg, seed)
    return DATASETS.build(cfg.train_dataloader.dataset)[0]['inputs']


def test_one_seed_for_weights_order_and_augmentation(cfg):
    first = sample(cfg, 5)
    assert cfg.randomness.seed == 5
    assert not torch.equal(sample(cfg, 6), first)
    assert torch.equal(sample(cfg, 5), first)
    assert torch.equal(sample(cfg, None), first), "None keeps the config's"


@pytest.fixture(params=['config file', 'dumped config'])
def either_form(request, cfg, tmp_path):
    if request.param == 'config file':
        return cfg
    cfg.dump(tmp_path / 'dumped.py')
    return Config.fromfile(tmp_path / 'dumped.py')


def test_each_data_set_is_checked_once(either_form, data_root, monkeypatch):
    checked = []
    monkeypatch.setattr(launch, 'check_dataset', lambda *where: checked.append(where))
    launch.check_data(either_form, 'train', 'val')
    assert checked == [(str(data_root), 'default')]


@pytest.mark.parametrize('variable', ['RANK', 'SLURM_PROCID'])
def test_one_process_of_several_checks(cfg, monkeypatch, variable):
    checked = []
    monkeypatch.setattr(launch, 'check_dataset', lambda *where: checked.append(where))
    monkeypatch.setenv(variable, '1')
    launch.check_data(cfg, 'train')
    assert checked == []
    monkeypatch.setenv(variable, '0')
    launch.check_data(cfg, 'train')
    assert len(checked) == 1


def test_another_data_set_for_all_parts(either_form):
    launch.use_data(either_form, 'data/own', 'fold-1')
    datasets = [either_form[f'{part}_dataloader'].dataset for part in ('train', 'val', 'test')]
    assert [(dataset.data_root, dataset.split) for dataset in datasets] == [('data/own', 'fold-1')] * 3
    assert [dataset.part for dataset in datasets] == ['train', 'val', 'val']
    launch.use_data(either_form, None, 'fold-2')
    assert [(dataset.data_root, dataset.split) for dataset in datasets] == [('data/own', 'fold-2')] * 3
    either_form.val_dataloader = None
    launch.use_data(either_form, 'data/other', None)
    assert datasets[0].data_root == datasets[2].data_root == 'data/other'


def test_data_of_another_kind_has_no_such_settings(cfg):
    cfg.val_dataloader.dataset = dict(type='mmseg.ADE20KDataset', data_root='data/ade')
    launch.use_data(cfg, None, None)
    with pytest.raises(UserError, match=r'--data and --split .* val_dataloader.dataset is a mmseg.ADE20KDataset'):
        launch.use_data(cfg, 'data/own', None)


@pytest.mark.parametrize('loader', [5, {'batch_size': 2}, {'dataset': 5}, {'dataset': {}}, {'dataset': {'type': 'no'}}])
def test_another_data_set_for_what_is_none_is_left_to_the_check(cfg, loader):
    cfg.val_dataloader = loader
    launch.use_data(cfg, 'data/own', None)
    assert cfg.val_dataloader == loader
    assert cfg.train_dataloader.dataset.data_root == cfg.test_dataloader.dataset.data_root == 'data/own'


def test_another_data_set_for_one_part(cfg):
    root = cfg.train_dataloader.dataset.data_root
    cfg.val_dataloader.dataset = dict(type='mmseg.ADE20KDataset', data_root='data/ade')
    launch.use_data(cfg, 'data/own', None, ['test'])
    assert cfg.train_dataloader.dataset.data_root == root
    assert cfg.test_dataloader.dataset.data_root == 'data/own'


@pytest.mark.parametrize(('typed', 'used', 'told'), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_nucleus_types_that_are_not_told_apart(cfg, tmp_path, capsys, typed, used, told):
    write_dataset(tmp_path / 'set', num_train=1, num_val=1, size=64, seed=0, types=typed)
    launch.use_data(cfg, str(tmp_path / 'set'), None)
    for part in ('train', 'val', 'test'):
        cfg[f'{part}_dataloader'].dataset.types = used
    launch.check_data(cfg, 'train', 'val')
    notices = [line for line in capsys.readouterr().err.splitlines() if line.startswith('notice: ')]
    assert len(notices) == told
    assert all(
        'has 3 nucleus types (epithelial, lymphocyte, connective)' in line and 'num_classes=4' in line
        for line in notices
    )


def test_another_resolution_in_training_than_in_prediction_is_told(capsys):
    configs = DEMO.parents[1]
    for path in sorted(path for path in configs.glob('*/*.py') if '_base_' not in path.parts):
        launch.check_resolution(load_config(str(path)))
    assert 'Rescale' not in capsys.readouterr().err
    launch.check_resolution(
        load_config(str(configs / 'cpu' / 'own_data.py'), {'train_dataloader.dataset.pipeline.0.factor': 1.0})
    )
    assert 'scaled by 1 (Rescale), those of predictions by 0.5' in capsys.readouterr().err


def test_a_checkpoint_of_other_nucleus_types(cfg, tmp_path):
    write_dataset(tmp_path / 'set', num_train=1, num_val=1, size=64, seed=0, types=True)
    launch.use_data(cfg, str(tmp_path / 'set'), None)
    types = ['epithelial', 'lymphocyte', 'connective']
    same, other = ({'meta': {'dataset_meta': {'classes': ('background', *names)}}} for names in (types, types[::-1]))
    # All nuclei are one class.
    assert launch.check_types(cfg, other) is None
    cfg.test_dataloader.dataset.types = True
    assert launch.check_types(cfg, same) is None
    with pytest.raises(UserError, match=r'has the types connective, .*set has epithelial, lymphocyte, connective'):
        launch.check_types(cfg, other)


@pytest.fixture
def tested(cfg, tmp_path, monkeypatch):
    """Run `launch.test` with a runner that scores nothing: its evaluators, and the folders of the `tested.json`."""
    checkpoint = tmp_path / 'iter_4.pth'
    checkpoint.write_bytes(b'weights')
    built = []

    def build_runner(config):
        assert config.resume is False
        # MMEngine's own files: not those of the training.
        assert config.work_dir == str(tmp_path / 'run' / 'test')
        built.append(config.test_evaluator)
        return SimpleNamespace(test=lambda: {'dice': 0.5}, register_hook=lambda hook: None, **NO_PARTS)

    monkeypatch.setattr(
        launch, 'read_checkpoint', lambda path: {'meta': {'dataset_meta': {}, 'preprocessing': PREPROCESSING}}
    )
    monkeypatch.setattr(launch, 'weights_from_checkpoint', lambda config: nullcontext())
    monkeypatch.setattr(launch, 'rehearse', lambda config, part: None)
    monkeypatch.setattr(launch, 'build_runner', build_runner)

    def run(evaluator):
        # As a run leaves it that was itself resumed.
        cfg.work_dir, cfg.test_evaluator, cfg.resume = str(tmp_path / 'run'), evaluator, True
        assert launch.test(cfg, str(checkpoint)) == {'dice': 0.5}
        return built.pop(), sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob('tested.json'))

    return run


EVALUATORS = """
from mmengine.evaluator import DumpResults

from mmgfnuc.evaluation import NucleiInstanceMetric, NucleiSemanticMetric

test_evaluator = [
    dict(type=NucleiSemanticMetric),
    dict(type=NucleiInstanceMetric),
    dict(type=DumpResults, out_file_path='all.pkl'),
    dict(type='mmseg.IoUMetric'),
]
"""


@pytest.mark.parametrize('dumped', [False, True])
def test_metrics_of_ours_write_into_the_working_folder(tested, tmp_path, dumped):
    path = tmp_path / 'evaluators.py'
    path.write_text(EVALUATORS)
    if dumped:
        Config.fromfile(path).dump(path)
        assert 'import' not in path.read_text()
    evaluators, folders = tested(Config.fromfile(path).test_evaluator)
    place = str(tmp_path / 'run' / 'test')
    assert [evaluator.get('out_dir') for evaluator in evaluators] == [place, place, None, None]
    assert folders == ['run/test']


def test_a_single_metric_and_one_with_its_own_folder(tested, tmp_path):
    evaluator, folders = tested(dict(type=NucleiSemanticMetric))
    assert evaluator.out_dir == str(tmp_path / 'run' / 'test')
    assert folders == ['run/test']
    evaluator, folders = tested(dict(metrics=[dict(type=NucleiSemanticMetric)]))
    assert evaluator.metrics[0].out_dir == str(tmp_path / 'run' / 'test')
    assert folders == ['run/test']
    own = dict(type=NucleiInstanceMetric, out_dir=str(tmp_path / 'own'))
    evaluators, folders = tested([dict(type=NucleiSemanticMetric), own])
    assert evaluators[1].out_dir == str(tmp_path / 'own')
    assert folders == ['own', 'run/test']


@pytest.fixture
def held_by_another():
    """Hold the lock of a folder as another process would; here it is a thread, which is kept apart in the same way."""
    with ThreadPoolExecutor(1) as other:
        locks = []

        def hold(folder):
            locks.append(output_lock(folder))
            other.submit(locks[-1].__enter__).result()

        yield hold
        for lock in locks:
            other.submit(lock.__exit__, None, None, None).result()


def test_two_trainings_in_one_folder(cfg, tmp_path, monkeypatch, held_by_another):
    """The first of several processes holds the lock."""
    cfg.work_dir, cfg.train_dataloader.batch_size = str(tmp_path / 'run'), 1
    begun = []
    runner = SimpleNamespace(train=lambda: None, register_hook=lambda hook: None)
    monkeypatch.setattr(launch, 'build_runner', lambda config: begun.append(config) or runner)
    held_by_another(tmp_path / 'run')
    monkeypatch.setenv('RANK', '1')
    launch.train(cfg)
    begun.clear()
    monkeypatch.setenv('RANK', '0')
    with pytest.raises(UserError, match=r'another process is writing to .*run; wait for its end or name another'):
        launch.train(cfg)
    assert begun == []
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('folder', ['run/test', 'masks', 'pictures'])
def test_two_tests_into_one_folder(cfg, tmp_path, monkeypatch, held_by_another, folder):
    """A test beside the training of the same working folder is no conflict."""
    checkpoint = tmp_path / 'iter_4.pth'
    checkpoint.write_bytes(b'weights')
    cfg.work_dir, cfg.test_evaluator = str(tmp_path / 'run'), dict(type=NucleiSemanticMetric)
    monkeypatch.setattr(
        launch, 'read_checkpoint', lambda path: {'meta': {'dataset_meta': {}, 'preprocessing': PREPROCESSING}}
    )
    monkeypatch.setattr(launch, 'weights_from_checkpoint', lambda config: nullcontext())
    runner = SimpleNamespace(test=lambda: {'dice': 0.5}, register_hook=lambda hook: None, **NO_PARTS)
    monkeypatch.setattr(launch, 'build_runner', lambda config: runner)
    held_by_another(tmp_path / 'run')
    places = str(tmp_path / 'masks'), str(tmp_path / 'pictures')
    assert launch.test(cfg, str(checkpoint), *places) == {'dice': 0.5}
    held_by_another(tmp_path / folder)
    with pytest.raises(UserError, match=f'another process is writing to {tmp_path / folder}'):
        launch.test(cfg, str(checkpoint), *places)


def test_scores_are_those_of_the_checkpoint_that_is_named(tmp_path):
    for name in ('a.pth', 'b.pth'):
        (tmp_path / name).write_bytes(name.encode())
    folder = tmp_path / 'test'
    with pytest.raises(UserError, match='holds no scores that are complete; test again'):
        read_tested(folder, tmp_path / 'a.pth')
    write_tested(folder, tmp_path / 'a.pth', {'data_root': 'data'}, ['metrics.json'])
    assert read_tested(folder, tmp_path / 'a.pth')['reports'] == ['metrics.json']
    with pytest.raises(UserError, match=r'holds the scores of another a\.pth; test again'):
        read_tested(folder, tmp_path / 'b.pth')


def test_a_log_on_a_full_disk_ends_with_one_line(tmp_path, capsys):
    logger = logging.Logger('full')
    handler = logging.FileHandler(tmp_path / 'run.log')
    logger.addHandler(handler)
    end_logs_at_full_disk(logger)
    logger.info('kept')

    def full(text):
        raise OSError(errno.ENOSPC, 'No space left on device')

    handler.stream = SimpleNamespace(write=full, flush=lambda: None, close=lambda: None)
    for step in range(100):
        logger.info('step %d', step)
    assert capsys.readouterr().err.splitlines() == [f'warning: {tmp_path / "run.log"} ends here: the disk is full']
    assert (tmp_path / 'run.log').read_text() == 'kept\n'
