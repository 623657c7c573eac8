# Nucleus types: a U-Net of width 16 with the head `hover` on typed synthetic tiles, without a foundation encoder, for a CPU.
from mmengine.config import read_base

from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.synthetic_typed import *
    from .._base_.fusion.none import foundation, neck
    from .._base_.heads.hover import head
    from .._base_.schedules.adam_steps import *
    from .._base_.unets.unet import backbone, decode_head

backbone.update(widths=(16, 32, 64, 128, 256))
decode_head = dict(**head, decoder=decode_head, num_classes=4)
model = dict(type=FusionSegmentor, backbone=backbone, foundation=foundation, neck=neck, decode_head=decode_head)
model.update(test_cfg=inference)
train_dataloader.update(batch_size=4, num_workers=1)
train_cfg.update(max_iters=600, val_interval=600)
