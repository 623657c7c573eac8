# eU-Net3+ with ViT-Ti/16 features: the paper's gated fusion block.
from mmengine.config import read_base

with read_base():
    from .eunet3plus_none import *
    from .._base_.foundation.vit_tiny import foundation
    from .._base_.fusion.paper import neck

model.update(foundation=foundation, neck=neck)
