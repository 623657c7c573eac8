# Which head tells touching nuclei apart? Small arms for two CPU cores, compared after equal steps on organs held out: the
# U-Net of width 16 with cross-attention to ViT-Ti/16 features. This arm learns the foreground alone.
from mmengine.config import read_base

from mmgfnuc.models.losses import DiceFocalLoss

with read_base():
    from ..fusion.unet_context import *
    from .._base_.heads.semantic import head

decode_head.update(loss_decode=dict(type=DiceFocalLoss, dice_per_image=True))
model.update(decode_head=dict(**head, decoder=decode_head), bottleneck_dropout=0.0)
train_cfg.update(max_iters=1500, val_interval=1500)
