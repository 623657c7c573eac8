"""dist_train.sh, dist_test.sh and slurm_train.sh: several real processes on the CPU, and the srun command line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmgfnuc.inference import Predictor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def trained_by_two(process, config, checkpoint, tmp_path_factory):
    """Three steps of two processes, from weights that find nuclei, so that scores show any difference in the model."""
    folder = tmp_path_factory.mktemp('trained_by_two')
    steps = ['train_cfg.max_iters=3', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1']
    weights = [f'load_from={checkpoint}', 'optim_wrapper.optimizer.lr=1e-6']
    options = [*steps, *weights, 'train_dataloader.batch_size=1']
    process('dist_train.sh', config, 2, '--work-dir', folder, '--cfg-options', *options, cwd=folder)
    return folder


@pytest.mark.slow
def test_two_processes_train(trained_by_two, config):
    log = next(trained_by_two.glob('*/*.log')).read_text()
    assert 'Iter(train) [3/3]' in log
    assert 'num_images: 5' in log
    used = Config.fromfile(trained_by_two / config.name)
    # A parameter without gradient would have stopped the run at its second step.
    assert not used.model_wrapper_cfg.get('find_unused_parameters', False)
    saved = torch.load(trained_by_two / 'iter_3.pth', weights_only=False)
    assert not any(key.startswith('module.') for key in saved['state_dict'])
    weights = Predictor(trained_by_two / 'iter_3.pth', device='cpu').model.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in saved['state_dict'].items())


@pytest.mark.slow
def test_validation_by_two_processes_scores_the_checkpoint_that_is_saved(tool, config, trained_by_two, tmp_path):
    (log,) = trained_by_two.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (logged,) = [line for line in lines if 'dice' in line and line['step'] == 2]
    assert tool('test', config, trained_by_two / 'iter_2.pth', '--work-dir', tmp_path) == 0
    tested = json.loads((tmp_path / 'test' / 'metrics.json').read_text())
    assert 0.05 < tested['dice'] < 0.95
    scores = {key: value for key, value in tested.items() if isinstance(value, float)}
    assert {key: logged[key] for key in scores} == pytest.approx(scores, abs=1e-12)


@pytest.mark.slow
def test_two_processes_give_exactly_the_scores_of_one(process, config, checkpoint, scored, tmp_path):
    process('dist_test.sh', config, checkpoint, 2, '--work-dir', 'run', '--out', 'masks', cwd=tmp_path)
    for name in ('metrics.json', 'per_image.csv', 'instances.json', 'instances.csv'):
        assert (tmp_path / 'run' / 'test' / name).read_bytes() == (scored / 'run' / 'test' / name).read_bytes()
    written = [path.relative_to(tmp_path) for path in (tmp_path / 'masks').rglob('*.png')]
    assert len(written) == 10, 'masks and label maps of five images'
    assert all((tmp_path / path).read_bytes() == (scored / path).read_bytes() for path in written)


@pytest.mark.slow
def test_a_mistake_in_several_processes_is_told_once(process, tmp_path):
    missing = tmp_path / 'none.py'
    done = process('dist_train.sh', missing, 2, cwd=tmp_path, code=2)
    printed = (done.stdout + done.stderr).splitlines()
    (error,) = [line for line in printed if 'error:' in line.lower()]
    assert error.startswith(f"error: config '{missing}' is not there; ")
    assert not any('Traceback' in line for line in printed)


@pytest.mark.slow
def test_a_killed_process_is_named(process, tmp_path):
    config = tmp_path / 'killed.py'
    config.write_text("import os\nif os.environ['RANK'] == '1':\n    os.abort()\nimport time\ntime.sleep(60)\n")
    done = process('dist_train.sh', config, 2, cwd=tmp_path, code=1)
    assert 'error: process 1 was ended by SIGABRT' in done.stderr.splitlines()


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_every_script_explains_itself(process, tmp_path, name):
    for option in ('-h', '--help'):
        done = process(name, option, cwd=tmp_path)
        assert f'bash tools/{name} ' in done.stdout
        assert '#' not in done.stdout
        assert done.stderr == ''
    assert f'usage: {name} ' in process(name, cwd=tmp_path, code=1).stderr


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
    asked = {'--partition': 'gpu', '--job-name': 'my job', '--gres': 'gpu:4', '--ntasks': '4', '--ntasks-per-node': '4'}
    for option, value in {**asked, '--cpus-per-task': '3', '--time': '10', '--qos': 'low'}.items():
        assert request[request.index(option) + 1] == value
    assert printed[program + 1] == '-u'
    assert printed[program + 2].endswith('/tools/train.py')
    assert printed[program + 3 :] == ['a config.py', '--launcher', 'slurm', '--seed', '1']


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm'])
def test_a_launcher_that_did_not_start_the_process(tool, config, tmp_path, capsys, monkeypatch, launcher):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    assert tool('train', config, '--work-dir', tmp_path, '--launcher', launcher) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: launcher '{launcher}': ")


@pytest.mark.parametrize('value', ['$(touch evil)', 'a[$(touch evil)]', '-1', '0', '08', '1.5', 'two'])
@pytest.mark.parametrize(
    ('script', 'variable'),
    [
        ('dist_train.sh', 'NUM_PROCESSES'),
        ('dist_test.sh', 'NUM_PROCESSES'),
        ('dist_train.sh', 'NNODES'),
        ('dist_train.sh', 'PORT'),
        ('slurm_train.sh', 'GPUS'),
        ('slurm_train.sh', 'GPUS_PER_NODE'),
        ('slurm_train.sh', 'CPUS_PER_TASK'),
    ],
)
def test_a_number_that_is_none_is_refused_and_not_run(process, tmp_path, script, variable, value):
    settings = {} if variable == 'NUM_PROCESSES' else {variable: value}
    last = {'dist_train.sh': [value if not settings else 2], 'dist_test.sh': ['checkpoint.pth', value]}
    arguments = ['config.py', *last[script]] if script in last else ['gpu', 'job', 'config.py']
    done = process(script, *arguments, cwd=tmp_path, code=2, **{'PYTHON': 'false', **settings})
    assert done.stderr.splitlines() == [f'error: {variable}={value}: give a whole number from 1']
    assert list(tmp_path.iterdir()) == []


WAITING = """
import os, sys, time
from pathlib import Path

from mmengine.config import Config

from mmgfnuc.engine.distributed import prepare_distributed

prepare_distributed(Config(dict(launcher='pytorch')))
Path(sys.argv[1], os.environ['RANK']).write_text(str(os.getpid()))
time.sleep(300)
"""


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_process(all_end, tmp_path):
    script, places = tmp_path / 'waiting.py', tmp_path / 'places'
    script.write_text(WAITING)
    places.mkdir()
    command = [sys.executable, ROOT / 'tools' / 'dist_run.py', '--standalone', '--nproc-per-node', '2', script, places]
    launcher = subprocess.Popen([str(word) for word in command], env={**os.environ, 'OMP_NUM_THREADS': '1'})
    while launcher.poll() is None and not all((places / rank).is_file() for rank in '01'):
        time.sleep(0.1)
    workers = [int((places / rank).read_text()) for rank in '01']
    launcher.kill()
    launcher.wait()
    assert all_end(workers)
