"""Which checkpoint a run goes on from, with files of no content."""

import shutil

import pytest
import torch
from mmengine.config import Config

from mmgfnuc.engine.resume import find_resume
from mmgfnuc.errors import UserError


def config(folder, seed=0, **settings):
    dataset = dict(dataset=dict(data_root='data/a', split='all', seed=seed))
    return Config(dict(work_dir=str(folder), train_dataloader=dataset, randomness=dict(seed=seed), **settings))


def write(path, seed=0, **settings):
    """A checkpoint at the step that its name says."""
    step, text = int(path.stem.rpartition('_')[2]), config(path.parent, seed, **settings).pretty_text
    meta = {
        'cfg': text,
        'seed': seed,
        'epoch': 0,
        'iter': step,
        'dataset_meta': {},
        'preprocessing': {},
        'versions': {},
    }
    torch.save({'state_dict': {}, 'meta': meta, 'optimizer': {'state': {}, 'param_groups': [{'params': []}]}}, path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints, the last one cut off, and one of weights alone, as the best one is kept."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for step in (2, 10):
        write(folder / f'iter_{step}.pth')
    (folder / 'iter_20.pth').write_bytes((folder / 'iter_10.pth').read_bytes()[:300])
    saved = torch.load(write(folder / 'best_dice_iter_12.pth'))
    del saved['optimizer']
    torch.save(saved, folder / 'best_dice_iter_12.pth')
    return folder


def resumed(folder, how='auto'):
    cfg = config(folder)
    find_resume(cfg, how)
    assert cfg.resume
    return cfg.load_from


@pytest.mark.parametrize(
    'pointer',
    [None, b'', b'\n', bytes(64), b'gone/iter_30.pth', b'x' * 5000, b'\xff\xfe', b'iter_20.pth'],
    ids=['missing', 'empty', 'newline', 'zeros', 'gone', 'long', 'no text', 'damaged'],
)
def test_without_a_usable_pointer_the_newest_whole_checkpoint_is_taken(folder, pointer, capsys):
    if pointer is not None:
        (folder / 'last_checkpoint').write_bytes(pointer)
    assert resumed(folder) == str(folder / 'iter_10.pth')
    notices = capsys.readouterr().err.splitlines()
    assert all(line.startswith('notice: ') for line in notices)
    for text in ('iter_20.pth', 'best_dice_iter_12.pth'):
        assert sum(text in line for line in notices if 'passed over' in line) >= 1
    assert 'iter_10.pth' in notices[-1]
    assert 'step 10' in notices[-1]
    told = [line for line in notices if f'{folder / "last_checkpoint"} ' in line]
    assert len(told) == (pointer not in (None, b'iter_20.pth'))


def test_a_pointer_that_is_a_folder(folder):
    (folder / 'last_checkpoint').mkdir()
    assert resumed(folder) == str(folder / 'iter_10.pth')


def test_the_pointer_is_followed_where_it_can_be(folder, capsys):
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_2.pth'))
    assert resumed(folder) == str(folder / 'iter_2.pth')
    assert capsys.readouterr().err == ''


def test_a_copied_folder_goes_on_from_its_own_checkpoint(folder, tmp_path):
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_2.pth'))
    copy = tmp_path / 'copy'
    shutil.copytree(folder, copy)
    assert resumed(copy) == str(copy / 'iter_2.pth')


def test_a_folder_without_a_whole_checkpoint_is_refused(folder):
    for step in (2, 10):
        (folder / f'iter_{step}.pth').unlink()
    with pytest.raises(UserError, match=r'run has no checkpoint to resume from \(.*best_dice.*iter_20'):
        find_resume(config(folder), 'auto')


def test_weights_alone_cannot_go_on(folder):
    with pytest.raises(UserError, match='holds weights alone'):
        find_resume(config(folder), str(folder / 'best_dice_iter_12.pth'))


def test_a_new_run_keeps_the_weights_that_its_config_begins_from(tmp_path, capsys):
    cfg = config(tmp_path / 'new', load_from='pretrained.pth')
    find_resume(cfg, 'auto')
    assert cfg.load_from == 'pretrained.pth'
    assert not cfg.resume
    assert 'a new run begins' in capsys.readouterr().err


def test_another_seed_is_not_used_without_a_word(folder, capsys):
    write(folder / 'iter_30.pth', seed=8)
    cfg = config(folder)
    find_resume(cfg, str(folder / 'iter_30.pth'))
    assert cfg.randomness.seed == cfg.train_dataloader.dataset.seed == 8
    (notice,) = capsys.readouterr().err.splitlines()
    assert 'seed, 8' in notice
    assert 'seed 0' in notice


def test_a_config_that_has_changed_is_told(folder, capsys):
    hooks = [dict(type='StepSeedHook'), dict(type='Other', interval=2)]
    write(folder / 'iter_30.pth', custom_hooks=hooks, sizes=(1, 2), gone=1, load_from='a.pth')
    cfg = config(folder, custom_hooks=[hooks[0], dict(hooks[1], interval=3)], sizes=[1, 2], new=dict(x=None))
    cfg.train_dataloader.dataset.update(data_root='data/b')
    find_resume(cfg, str(folder / 'iter_30.pth'))
    (notice,) = capsys.readouterr().err.splitlines()
    told = notice.partition('than before: ')[2].split(', ')
    assert sorted(told) == [
        'custom_hooks.1.interval 2 -> 3',
        'gone 1 -> (none)',
        'new.x (none) -> None',
        'train_dataloader.dataset.data_root data/a -> data/b',
    ]


@pytest.mark.parametrize('named', [None, 'iter_2.pth'])
def test_resume_in_the_config_is_that_of_the_command_line(folder, named):
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_10.pth'))
    cfg = config(folder, 8, resume=True, load_from=named and str(folder / named))
    find_resume(cfg, None)
    assert cfg.load_from == str(folder / (named or 'iter_10.pth'))
    assert cfg.randomness.seed == cfg.train_dataloader.dataset.seed == 0


def test_resume_in_the_config_begins_anew_where_there_is_nothing(tmp_path, capsys):
    cfg = config(tmp_path / 'new', resume=True)
    find_resume(cfg, None)
    assert not cfg.resume
    assert 'a new run begins' in capsys.readouterr().err


def test_a_new_run_among_the_checkpoints_of_another_is_told(folder, tmp_path, capsys):
    find_resume(config(folder), None)
    (notice,) = capsys.readouterr().err.splitlines()
    assert f'{folder} holds checkpoints of an earlier run' in notice
    assert '--resume' in notice
    find_resume(config(tmp_path / 'new'), None)
    assert capsys.readouterr().err == ''
