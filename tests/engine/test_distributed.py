"""The distributed set-up, without starting any process."""

import os

import pytest
import torch
from mmengine.config import Config

from mmgfnuc.engine import distributed
from mmgfnuc.errors import UserError

PYTORCH_VARIABLES = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
VARIABLES = (*PYTORCH_VARIABLES, 'SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS', 'SLURM_NNODES')
TASK_3_OF_4 = {'SLURM_PROCID': '3', 'SLURM_LOCALID': '1', 'SLURM_NTASKS': '4'}


@pytest.fixture
def groups(monkeypatch):
    """An environment without any launcher; the back ends of the process groups that are made."""
    made = []
    monkeypatch.setattr(torch.distributed, 'init_process_group', made.append)
    monkeypatch.setattr(os, 'environ', {key: value for key, value in os.environ.items() if key not in VARIABLES})
    return made


@pytest.fixture(params=[False, True], ids=['cpu', 'gpu'])
def has_gpu(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: request.param)
    return request.param


def test_pytorch_launcher(groups, has_gpu):
    os.environ['RANK'] = '0'
    cfg = Config(dict(launcher='pytorch'))
    distributed.prepare_distributed(cfg)
    # On a GPU MMEngine makes the group and chooses the devices itself.
    assert groups == ([] if has_gpu else ['gloo'])
    assert cfg.model_wrapper_cfg.get('device_ids', 'not given') == ('not given' if has_gpu else None)
    assert cfg.model_wrapper_cfg.type == 'MMDistributedDataParallel'
    assert cfg.model_wrapper_cfg.broadcast_buffers is False
    assert not cfg.model_wrapper_cfg.get('find_unused_parameters')


@pytest.mark.parametrize('given', [{'MASTER_ADDR': 'node7'}, {}])
def test_slurm_tasks_become_ranks_on_the_cpu(groups, monkeypatch, given):
    """On one node they meet there."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    os.environ.update(TASK_3_OF_4, **given)
    distributed.prepare_distributed(Config(dict(launcher='slurm')))
    assert groups == ['gloo']
    expected = {'RANK': '3', 'LOCAL_RANK': '1', 'WORLD_SIZE': '4', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '29500'}
    assert {key: os.environ[key] for key in expected} == expected | given


def test_slurm_on_several_nodes_needs_a_meeting_place(groups, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    os.environ.update(TASK_3_OF_4, SLURM_NNODES='2')
    with pytest.raises(UserError, match='MASTER_ADDR is not set; export the host name of the first node'):
        distributed.prepare_distributed(Config(dict(launcher='slurm')))
    assert groups == []
    os.environ['MASTER_ADDR'] = 'node7'
    distributed.prepare_distributed(Config(dict(launcher='slurm')))
    assert groups == ['gloo']


def test_a_wrapper_of_the_config_is_kept(groups, has_gpu):
    os.environ['RANK'] = '0'
    cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=dict(type='Own')))
    distributed.prepare_distributed(cfg)
    assert cfg.model_wrapper_cfg == dict(type='Own')


@pytest.mark.parametrize(('launcher', 'variable'), [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID')])
def test_a_process_that_no_launcher_started(groups, has_gpu, launcher, variable):
    with pytest.raises(UserError, match=f"launcher '{launcher}': {variable} is not set"):
        distributed.prepare_distributed(Config(dict(launcher=launcher)))
    assert groups == []
