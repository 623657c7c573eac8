"""dist_train.sh, dist_test.sh and slurm_train.sh: several real processes on the CPU, and the srun command line."""

import pytest
import torch
from mmengine.config import Config

from mmgfnuc.inference import NucleiInferencer


@pytest.mark.slow
def test_two_processes_train(process, config, tmp_path):
    short = ['train_cfg.max_iters=3', 'train_cfg.val_interval=3', 'train_dataloader.batch_size=1']
    process('dist_train.sh', config, 2, '--work-dir', 'run', '--cfg-options', *short, cwd=tmp_path)
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'Iter(train) [3/3]' in log
    assert 'num_images: 5' in log
    used = Config.fromfile(tmp_path / 'run' / config.name)
    # A parameter without gradient would have stopped the run at its second step.
    assert not used.model_wrapper_cfg.get('find_unused_parameters', False)
    saved = torch.load(tmp_path / 'run' / 'iter_3.pth', weights_only=False)
    assert not any(key.startswith('module.') for key in saved['state_dict'])
    weights = NucleiInferencer(tmp_path / 'run' / 'iter_3.pth', device='cpu').model.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in saved['state_dict'].items())


@pytest.mark.slow
def test_two_processes_give_exactly_the_scores_of_one(process, config, checkpoint, scored, tmp_path):
    process('dist_test.sh', config, checkpoint, 2, '--work-dir', 'run', '--out', 'masks', cwd=tmp_path)
    for name in ('metrics.json', 'per_image.csv'):
        assert (tmp_path / 'run' / 'test' / name).read_bytes() == (scored / 'run' / 'test' / name).read_bytes()
    masks = sorted((tmp_path / 'masks').iterdir())
    assert len(masks) == 5
    assert all(mask.read_bytes() == (scored / 'masks' / mask.name).read_bytes() for mask in masks)


def test_slurm_train_asks_srun_for_what_was_asked_of_it(process, tmp_path):
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    settings = {'GPUS': '4', 'CPUS_PER_TASK': '3', 'SRUN_ARGS': '--time 10 --qos low', 'PYTHON': 'python'}
    arguments = ['gpu', 'my job', 'a config.py', '--seed', 1]
    path = f'{srun.parent}:/usr/bin:/bin'
    printed = process('slurm_train.sh', *arguments, cwd=tmp_path, PATH=path, **settings).stdout.splitlines()
    program = printed.index('python')
    request = printed[:program]
    for option, value in (
        ('--partition', 'gpu'),
        ('--job-name', 'my job'),
        ('--gres', 'gpu:4'),
        ('--ntasks', '4'),
        ('--ntasks-per-node', '4'),
        ('--cpus-per-task', '3'),
        ('--time', '10'),
        ('--qos', 'low'),
    ):
        assert request[request.index(option) + 1] == value
    assert printed[program + 1] == '-u'
    assert printed[program + 2].endswith('/tools/train.py')
    assert printed[program + 3 :] == ['a config.py', '--launcher', 'slurm', '--seed', '1']


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm'])
def test_a_launcher_that_did_not_start_the_process(tool, config, tmp_path, capsys, monkeypatch, launcher):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    assert tool('train.py', config, '--work-dir', tmp_path, '--launcher', launcher) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: launcher '{launcher}': ")
