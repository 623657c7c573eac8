# The paper's schedule: Adam at 1e-4, constant, 50 epochs. The last checkpoint is the result.
from mmengine.config import read_base
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, TestLoop, ValLoop
from torch.optim import Adam

from mmgfnuc.engine import TrainableParamsConstructor, WholeCheckpointHook

with read_base():
    from ..runtime.default import *

optim_wrapper = dict(type=OptimWrapper, constructor=TrainableParamsConstructor, optimizer=dict(type=Adam, lr=1e-4))
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=50, val_interval=10)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks.update(checkpoint=dict(type=WholeCheckpointHook, interval=5, max_keep_ckpts=2))
