# One's own images (docs/own_data.md): a U-Net of width 16 with the head `hover`, without foundation encoder, so no weight
# file, for two CPU cores.
from mmengine.config import read_base

from mmgfnuc.models.losses import DiceFocalLoss
from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.nuinsseg import *
    from .._base_.fusion.none import foundation, neck
    from .._base_.heads.hover import head
    from .._base_.schedules.adam_steps import *
    from .._base_.unets.unet import backbone, decode_head

backbone.update(widths=(16, 32, 64, 128, 256))
decode_head.update(loss_decode=dict(type=DiceFocalLoss, dice_per_image=True))
decode_head = dict(**head, decoder=decode_head)
model = dict(type=FusionSegmentor, backbone=backbone, foundation=foundation, neck=neck, decode_head=decode_head)
model.update(test_cfg=inference)
train_dataloader.update(batch_size=4, num_workers=1)
train_dataloader.dataset.update(data_root='data/own', split='grouped-5-fold-0')
val_dataloader.dataset.update(data_root='data/own', split='grouped-5-fold-0')
test_dataloader.dataset.update(data_root='data/own', split='grouped-5-fold-0')
