# Does fusion help? Small arms for two CPU cores, compared after equal steps on organs held out. This is the U-Net alone.
from mmengine.config import read_base

from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.nuinsseg import *
    from .._base_.fusion.none import foundation, neck
    from .._base_.schedules.adam_steps import *
    from .._base_.unets.unet import backbone, decode_head

backbone.update(widths=(16, 32, 64, 128, 256))
model = dict(type=FusionSegmentor, backbone=backbone, foundation=foundation, neck=neck, decode_head=decode_head)
model.update(test_cfg=inference, bottleneck_dropout=0.3)
train_dataloader.update(batch_size=4, num_workers=1)
train_cfg.update(max_iters=300, val_interval=300)
