# A budget of optimiser steps for a CPU: Adam from 1e-3 down to 0 along a half cosine.
from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import LogProcessor, TestLoop, ValLoop
from torch.optim import Adam

from mmgfnuc.engine import StepBasedTrainLoop, TrainableParamsConstructor, WholeCheckpointHook

with read_base():
    from ..runtime.default import *

optim_wrapper = dict(type=OptimWrapper, constructor=TrainableParamsConstructor, optimizer=dict(type=Adam, lr=1e-3))
param_scheduler = dict(type=CosineAnnealingLR, by_epoch=False, eta_min=0.0)
train_cfg = dict(type=StepBasedTrainLoop, max_iters=1000, val_interval=1000)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks.update(checkpoint=dict(type=WholeCheckpointHook, by_epoch=False, interval=200, max_keep_ckpts=2))
# Progress and scores are counted in steps.
default_hooks.logger.update(log_metric_by_epoch=False)
log_processor = dict(type=LogProcessor, by_epoch=False)
