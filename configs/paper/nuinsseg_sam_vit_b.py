# The paper's model and settings on NuInsSeg: eU-Net3+ with SAM ViT-B through a Gated Fusion Block.
from mmengine.config import read_base

from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.nuinsseg_normalised import *
    from .._base_.foundation.sam_vit_b import foundation
    from .._base_.fusion.paper import neck
    from .._base_.schedules.adam_50e import *
    from .._base_.unets.eunet3plus import backbone, decode_head

model = dict(
    type=FusionSegmentor,
    backbone=backbone,
    foundation=foundation,
    neck=neck,
    decode_head=decode_head,
    bottleneck_dropout=0.3,
    test_cfg=inference,
)
