# A fused U-Net for two CPU cores: width 16, ViT-Ti/16 (ImageNet supervision) gates the bottleneck. The block's attention
# is off and Dice is averaged per image: chosen together, on three of the training organs.
from mmengine.config import read_base

from mmgfnuc.models.losses import DiceFocalLoss
from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.nuinsseg import *
    from .._base_.foundation.vit_tiny import foundation
    from .._base_.fusion.released import neck
    from .._base_.schedules.adam_steps import *
    from .._base_.unets.unet import backbone, decode_head

backbone.update(widths=(16, 32, 64, 128, 256))
neck.update(attention_levels=())
decode_head.update(loss_decode=dict(type=DiceFocalLoss, dice_per_image=True))
model = dict(type=FusionSegmentor, backbone=backbone, foundation=foundation, neck=neck, decode_head=decode_head)
model.update(test_cfg=inference)
train_dataloader.update(batch_size=8, num_workers=1)
