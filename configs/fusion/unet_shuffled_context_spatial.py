# The U-Net with ViT-Ti/16 features: control, the tokens of `context` at permuted positions.
from mmengine.config import read_base

with read_base():
    from .unet_none import *
    from .._base_.foundation.vit_tiny import foundation
    from .._base_.fusion.shuffled_context_spatial import neck

model.update(foundation=foundation, neck=neck)
