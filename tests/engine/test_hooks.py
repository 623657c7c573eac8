import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import CheckpointLoader, EpochBasedTrainLoop
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.engine import BroadcastBuffersHook, CheckpointGuardHook, PredictionHook, StepBasedTrainLoop, StepSeedHook
from mmgfnuc.engine.hooks import checkpoint_guard
from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation.catalogue import find_entry
from mmgfnuc.visualization.errors import draw_panels


def draw(seed=0, rank=0, step=0):
    StepSeedHook().before_train_iter(SimpleNamespace(seed=seed, rank=rank, iter=step), 0)
    return torch.rand(4)


def test_random_numbers_depend_on_seed_process_and_step_alone():
    first = draw()
    torch.rand(7)
    assert torch.equal(draw(), first)
    for other in (draw(seed=1), draw(rank=1), draw(step=1)):
        assert not torch.equal(other, first)
    assert not torch.equal(draw(rank=1), draw(step=1))


def loop(cls, step, epoch, images=9):
    """A loop over batches of two images, by default four in an epoch."""
    made = cls.__new__(cls)
    made._iter, made._epoch = step, epoch
    made.dataloader = DataLoader(range(images), batch_size=2, drop_last=True)
    return SimpleNamespace(train_loop=made)


@pytest.mark.parametrize(
    ('cls', 'step', 'epoch'), [(EpochBasedTrainLoop, 0, 0), (EpochBasedTrainLoop, 8, 2), (StepBasedTrainLoop, 7, 0)]
)
def test_where_a_run_may_begin(cls, step, epoch):
    runner = loop(cls, step, epoch)
    assert StepSeedHook().before_train(runner) is None
    assert (runner.train_loop.iter, runner.train_loop.epoch) == (step, epoch)


@pytest.mark.parametrize(('step', 'epoch'), [(3, 0), (7, 1), (10, 2)])
def test_a_checkpoint_from_within_an_epoch_is_refused(step, epoch):
    with pytest.raises(UserError, match=f'saved at step {step}, within an epoch of 4 steps'):
        StepSeedHook().before_train(loop(EpochBasedTrainLoop, step, epoch))


@pytest.mark.parametrize('cls', [EpochBasedTrainLoop, StepBasedTrainLoop])
def test_an_epoch_without_a_step_is_refused(cls):
    with pytest.raises(UserError, match=r'1 training images for each process are fewer than a batch of 2: .*lower'):
        StepSeedHook().before_train(loop(cls, 0, 0, images=1))
    StepSeedHook().before_train(loop(cls, 0, 0, images=2))


def test_one_process_keeps_its_buffers():
    model = nn.BatchNorm1d(3)
    model(torch.randn(5, 3))
    before = {name: value.clone() for name, value in model.named_buffers()}
    BroadcastBuffersHook().before_val(SimpleNamespace(model=model))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def wrapped(model):
    """As in a distributed run, without starting one."""
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = model
    return wrapper


@pytest.mark.parametrize('wrap', [lambda model: model, wrapped], ids=['plain', 'distributed'])
def test_guard_compares_a_checkpoint_with_the_model(wrap):
    model = nn.Linear(2, 3)
    runner = SimpleNamespace(model=wrap(model), _load_from='a.pth')
    CheckpointGuardHook().after_load_checkpoint(runner, {'state_dict': model.state_dict(), 'meta': {}})
    with pytest.raises(UserError, match='has weight as'):
        CheckpointGuardHook().after_load_checkpoint(runner, {'state_dict': nn.Linear(5, 3).state_dict(), 'meta': {}})


def test_what_mmengine_loads_is_read_as_data(tmp_path):
    """By whatever name a config has it; other addresses are refused."""
    assert {loader.__module__ for loader in CheckpointLoader._schemes.values()} == {checkpoint_guard.__name__}
    torch.save({'state_dict': {'weight': torch.ones(2)}}, tmp_path / 'a.pth')
    read = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu', 'silent')
    assert torch.equal(read['state_dict']['weight'], torch.ones(2))
    torch.save({'state_dict': {}, 'meta': nn.Linear(1, 1)}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r"a\.pth' cannot be read"):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu', 'silent')
    for address in (
        'http://x/a.pth',
        's3://x/a.pth',
        'mine:s3://x',
        'torchvision://resnet50',
        'open-mmlab://x',
        'mmcls://x',
    ):
        with pytest.raises(UserError, match='is an address; download the file'):
            CheckpointLoader.load_checkpoint(address, 'cpu', 'silent')


def test_a_checkpoint_does_not_say_what_is_deleted(tmp_path):
    """MMEngine deletes the best checkpoint before a new one, by the path that the old one remembers."""
    model = nn.Linear(2, 3)
    best = str(tmp_path / 'best.pth')
    info = {'best_ckpt': '/home/other/file', 'best_ckpt_dice': best, 'keep_ckpt_ids': [4, '../x']}
    info['outdated_ckpts'] = ['iter_2.pth', '../x.pth', 5]
    hub = {'runtime_info': info, 'log_scalars': {}, 'resumed_keys': {}}
    runner = SimpleNamespace(model=model, work_dir=str(tmp_path), _load_from='a.pth')
    saved = {'state_dict': model.state_dict(), 'meta': {}, 'message_hub': hub}
    CheckpointGuardHook().after_load_checkpoint(runner, saved)
    assert info == {'best_ckpt_dice': best, 'keep_ckpt_ids': [4], 'outdated_ckpts': ['iter_2.pth']}


def test_plain_weights_can_be_loaded():
    model = nn.Linear(2, 3)
    CheckpointGuardHook().after_load_checkpoint(
        SimpleNamespace(model=model, _load_from='a.pth'), dict(model.state_dict())
    )


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(time, 'monotonic', lambda: now.seconds)
    return now


DATA = SimpleNamespace(dataset=SimpleNamespace(metainfo={'mpp': 0.5}))


def saved_meta(hook):
    checkpoint = {'meta': {'seed': 3}}
    hook.before_save_checkpoint(None, checkpoint)
    return checkpoint['meta']


def test_seconds_of_training_add_up_over_resuming(clock):
    model = nn.Linear(2, 3)
    runner = SimpleNamespace(model=model, train_dataloader=DATA, _load_from='a.pth')
    hook = CheckpointGuardHook()
    hook.before_train(runner)
    clock.seconds += 60
    assert saved_meta(hook)['train_seconds'] == 60
    clock.seconds += 20
    meta = saved_meta(hook)
    assert meta['train_seconds'] == 80
    # Some time later, in a new process:
    clock.seconds = 5.0
    resumed = CheckpointGuardHook()
    resumed.after_load_checkpoint(runner, {'state_dict': model.state_dict(), 'meta': meta})
    resumed.before_train(runner)
    clock.seconds += 7
    assert saved_meta(resumed)['train_seconds'] == 87


def test_a_checkpoint_says_what_ran_not_what_the_files_have_become(monkeypatch):
    monkeypatch.setattr(checkpoint_guard, 'commit', lambda: 'first')
    hook = CheckpointGuardHook()
    hook.before_train(SimpleNamespace(model=nn.Linear(2, 3), train_dataloader=DATA))
    monkeypatch.setattr(checkpoint_guard, 'commit', lambda: 'second')
    meta = saved_meta(hook)
    assert meta['commit'] == 'first'
    assert meta['seed'] == 3
    assert meta['hardware'] == checkpoint_guard.hardware()
    assert meta['versions'] == checkpoint_guard.versions()
    assert meta['preprocessing'] == {'mpp': 0.5, 'classes': [], 'palette': [], 'stains': []}


@pytest.mark.parametrize(
    ('name', 'licence', 'restricted'), [('uni', 'CC-BY-NC-ND-4.0', True), ('dinov2-vit-s14', 'Apache-2.0', False)]
)
def test_terms_of_the_encoder_are_in_checkpoint_and_log(name, licence, restricted):
    entry = find_entry(name)
    lines = []
    model = nn.Module()
    model.foundation = SimpleNamespace(entry=entry, weights='file.pth')
    hook = CheckpointGuardHook()
    logger = SimpleNamespace(warning=lines.append)
    hook.before_train(SimpleNamespace(model=model, train_dataloader=DATA, logger=logger))
    found = saved_meta(hook)['foundation']
    assert found == {'name': name, 'licence': licence, 'terms': entry.terms}
    assert lines == ([entry.terms] if restricted else [])


def test_random_weights_have_no_terms():
    model = nn.Module()
    model.foundation = SimpleNamespace(entry=find_entry('uni'), weights='random')
    hook = CheckpointGuardHook()
    hook.before_train(SimpleNamespace(model=model, train_dataloader=DATA, logger=None))
    assert 'foundation' not in saved_meta(hook)


IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)


def sample_as_tested(folder, labels):
    """A sample of three classes as it comes out of a model: two true nuclei, and a row that is ignored."""
    Image.fromarray(IMAGE).save(folder / 'image.png')
    sample = SegDataSample(metainfo={'img_id': 'a', 'img_path': str(folder / 'image.png')})
    semantic = torch.zeros(1, 6, 8, dtype=torch.int64)
    semantic[:, 1:4, 1:3], semantic[:, 1:4, 5:7], semantic[:, 5] = 1, 2, 255
    truth = torch.zeros(1, 6, 8, dtype=torch.int32)
    truth[:, 1:4, 1:3], truth[:, 1:4, 5:7] = 4, 9
    sample.gt_sem_seg, sample.gt_instance_map = PixelData(data=semantic), PixelData(data=truth)
    sample.pred_sem_seg = PixelData(data=semantic * (semantic < 255))
    sample.pred_instance_map = PixelData(data=labels[None])
    sample.pred_probabilities = PixelData(data=torch.zeros(3, 6, 8))
    return sample


@pytest.mark.parametrize(('nucleus', 'suffix'), [(2, 'png'), (70_000, 'tif')])
def test_predictions_and_pictures_are_written(tmp_path, nucleus, suffix):
    labels = np.zeros((6, 8), np.int32)
    labels[1:4, 1:3], labels[1:4, 5:7], labels[5, 3] = 1, nucleus, 3
    hook = PredictionHook(str(tmp_path / 'out'), str(tmp_path / 'pictures'))
    hook.after_test_iter(None, 0, outputs=[sample_as_tested(tmp_path, labels)])
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*.*')}
    assert written == {'image.png', 'out/a.png', f'out/labels/a.{suffix}', 'pictures/a.png'}
    mask = np.array(Image.open(tmp_path / 'out' / 'a.png'))
    assert mask[2].tolist() == [0, 127, 127, 0, 0, 255, 255, 0]
    assert not mask[5].any()
    assert np.array_equal(read_label_map(tmp_path / 'out' / 'labels' / f'a.{suffix}'), labels)
    truth, ignore = np.where(labels == 3, 0, labels), np.arange(6)[:, None] == np.full(8, 5)
    assert np.array_equal(Image.open(tmp_path / 'pictures' / 'a.png'), draw_panels(IMAGE, truth, labels, ignore))


def test_what_was_not_asked_for_is_not_written(tmp_path):
    sample = sample_as_tested(tmp_path, np.zeros((6, 8), np.int32))
    PredictionHook(show_dir=str(tmp_path / 'pictures')).after_test_iter(None, 0, outputs=[sample])
    PredictionHook(out_dir=str(tmp_path / 'out')).after_test_iter(None, 0, outputs=None)
    assert {path.name for path in tmp_path.iterdir()} == {'image.png', 'pictures'}
