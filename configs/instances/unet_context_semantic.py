# Which head tells touching nuclei apart? Small arms for two CPU cores, compared after equal steps on organs held out: the
# U-Net of width 16 with cross-attention to ViT-Ti/16 features. This arm learns the foreground alone.
from mmengine.config import read_base

from mmgfnuc.models.losses import DiceFocalLoss
from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.nuinsseg import *
    from .._base_.foundation.vit_tiny import foundation
    from .._base_.fusion.context import neck
    from .._base_.heads.semantic import head
    from .._base_.schedules.adam_steps import *
    from .._base_.unets.unet import backbone, decode_head

backbone.update(widths=(16, 32, 64, 128, 256))
decode_head.update(loss_decode=dict(type=DiceFocalLoss, dice_per_image=True))
model = dict(type=FusionSegmentor, backbone=backbone, foundation=foundation, neck=neck)
model.update(decode_head=dict(**head, decoder=decode_head), test_cfg=inference)
train_dataloader.update(batch_size=4, num_workers=1)
train_cfg.update(max_iters=1500, val_interval=1500)
