# A budget of optimiser steps with the warm-up that transformers are trained with: AdamW with a weight decay of 0.01 (none
# of norms and biases), up to 1e-3 in the first 50 steps, then down to 0 along a half cosine.
from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

with read_base():
    from .adam_steps import *

optim_wrapper.update(
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type=LinearLR, by_epoch=False, start_factor=0.02, begin=0, end=50),
    dict(type=CosineAnnealingLR, by_epoch=False, eta_min=0.0, begin=50),
]
