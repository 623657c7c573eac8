"""A misspelt or mistyped setting: one clear line, before anything runs. tools/checks/bad_settings.py has more."""

import pytest

# Settings of a command line, and what the line names besides their path.
WRONG = {
    # misspelt
    'model.backbone.widhts=(4,8)': 'near it: widths',
    'model.decode_head.skip_chanels=4': 'near it: skip_channels',
    'model.foundation.wieghts=random': 'near it: weights',
    'model.neck.blok.dropout=0.1': 'near it: block',
    'model.test_cfg.overlap=300': 'overlap=300',
    'model.test_cfg.tle=64': 'near it: tile',
    'train_dataloader.bach_size=2': 'near it: batch_size',
    'train_dataloader.sampler.shufle=True': 'near it: shuffle',
    'train_dataloader.dataset.splitt=default': 'near it: split',
    'train_dataloader.dataset.pipeline.0.elastic.alpa=3': 'near it: alpha',
    'train_cfg.max_iter=100': 'near it: max_iters',
    'optim_wrapper.optimizer.weight_dcay=1': 'near it: weight_decay',
    'optim_wrapper.clip_grad.max_norm=-1': 'above 0',
    'optim_wrapper.clip_grad.max_nrm=1': 'near it: max_norm',
    'param_scheduler.eta_mn=0': 'near it: eta_min',
    'default_hooks.checkpoint.intervall=50': 'near it: interval',
    'default_hooks.chekpoint.interval=50': 'near it: checkpoint',
    'val_evaluator.0.out_dirr=x': 'near it: out_dir',
    'test_evaluator.0.out_dirr=x': 'near it: out_dir',
    'test_evaluator.1.detection_pairing=nearst': "'nearst'",
    'test_dataloader.bach_size=2': 'near it: batch_size',
    'env_cfg.mp_cfg.mp_start_metod=fork': 'near it: mp_start_method',
    'randomness.sed=1': 'near it: seed',
    'log_processor.window_sise=5': 'near it: window_size',
    'resme=True': 'near it: resume',
    'cudnn_benchmrk=True': 'near it: env_cfg.cudnn_benchmark',
    'launcher=nosuch': '--launcher',
    'a.b.c=1': "there is no 'a'",
    'model.decode_head.type=mmgfnuc.UNetHed': 'near it: UNetHead',
    'backbone.widths=(4,8)': 'near it: model.backbone.widths',
    # mistyped
    'model.backbone.widths=8': 'a list',
    'model.foundation.tune=frosen': "tune='frosen'",
    'train_dataloader.batch_size=0': 'at least 1',
    'train_dataloader.num_workers=two': 'a whole number',
    'train_dataloader.dataset.pipeline.0.size=big': 'a whole number',
    'train_dataloader.dataset.pipeline.9.size=8': 'has 6 entries',
    'train_cfg.max_iters=ten': 'a whole number',
    'train_cfg.val_interval=0': 'at least 1',
    'optim_wrapper.optimizer.lr=fast': 'a number',
    'optim_wrapper.optimizer.type=Adamm': 'near it: Adam',
    'optim_wrapper.optimizer.betas=(0.9,2)': 'Invalid beta parameter',
    'param_scheduler.T_max=0': 'at least 1',
    'param_scheduler.eta_min=low': 'a number',
    'param_scheduler.begin=500': 'begin=500',
    'default_hooks.logger.interval=ten': 'a whole number',
    'default_hooks.checkpoint.filename_tmpl=x.pth': "filename_tmpl='x.pth'",
    'custom_hooks.3.patience=0': 'patience=0',
    'default_hooks.checkpoint.save_best=nosuch': "save_best='nosuch'",
    'randomness.seed=-1': 'a seed is in 0 to',
    'env_cfg.cudnn_benchmark=maybe': 'True or False',
    'log_level=LOUD': "'INFO'",
}


@pytest.mark.parametrize('setting', WRONG)
def test_a_wrong_setting_is_one_line_before_anything_runs(tool, config, tmp_path, capsys, setting):
    work_dir = tmp_path / 'run'
    assert tool('train', config, '--work-dir', work_dir, '--cfg-options', setting) == 2
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith('error: ') for line in said) == 1
    assert said[-1].startswith('error: ')
    path = setting.partition('=')[0]
    # The path may end at the part that does not exist or that refuses the value.
    assert (path.rpartition('.')[0] or path) in said[-1]
    assert WRONG[setting] in said[-1]
    assert not list(tmp_path.iterdir())


def test_there_are_forty_of_them():
    assert len(WRONG) >= 40


@pytest.mark.parametrize(
    ('setting', 'said'),
    [
        ('train_dataloader.dataset=5', 'train_dataloader.dataset=5'),
        ('train_dataloader.dataset={}', 'train_dataloader.dataset'),
        ('val_dataloader=5', 'val_dataloader=5'),
        ('val_dataloader.dataset.type=nosuch', "val_dataloader.dataset.type='nosuch'"),
    ],
)
def test_another_data_set_for_what_is_none(tool, config, data_root, tmp_path, capsys, setting, said):
    run = ['--work-dir', tmp_path / 'run', '--data', data_root, '--cfg-options', setting]
    assert tool('train', config, *run) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('setting', ['model.test_cfg.tle=64', 'test_evaluator.0.out_dirr=x', 'resme=True'])
def test_a_wrong_setting_of_a_test(tool, config, tmp_path, capsys, setting):
    """Seen before the checkpoint, which is missing."""
    assert tool('test', config, tmp_path / 'none.pth', '--cfg-options', setting) == 2
    assert 'near it: ' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('setting', ['bach_size=2', 'dataset.type=mmseg.ADE20KDataset'])
def test_what_is_wrong_for_training_alone_is_no_fault_of_a_test(tool, config, data_root, tmp_path, capsys, setting):
    option = f'train_dataloader.{setting}'
    assert tool('test', config, tmp_path / 'none.pth', '--data', data_root, '--cfg-options', option) == 2
    assert 'none.pth' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_in_a_process_of_its_own(process, config, tmp_path):
    """Nothing but the line is on the screen, and no folder is made."""
    done = process('train.py', config, '--cfg-options', 'default_hooks.checkpoint.intervall=50', cwd=tmp_path, code=2)
    (line,) = done.stderr.splitlines()
    assert 'default_hooks.checkpoint.intervall' in line
    done = process('train.py', config, '--cfg-options', 'train_dataloader.batch_size', cwd=tmp_path, code=2)
    assert "'train_dataloader.batch_size' is not KEY=VALUE" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
