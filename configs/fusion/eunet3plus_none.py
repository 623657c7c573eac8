# eU-Net3+ alone.
from mmengine.config import read_base

with read_base():
    from .unet_none import *
    from .._base_.unets.eunet3plus import backbone, decode_head

backbone.update(widths=(16, 32, 64, 128, 256))
decode_head.update(skip_channels=16)
model.update(backbone=backbone, decode_head=decode_head)
