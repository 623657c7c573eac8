# The paper's first baseline: a plain U-Net, everything else as in the paper's config.
from mmengine.config import read_base

from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.nuinsseg_normalised import *
    from .._base_.schedules.adam_50e import *
    from .._base_.unets.unet import backbone, decode_head

model = dict(type=FusionSegmentor, backbone=backbone, decode_head=decode_head, test_cfg=inference)
model.update(bottleneck_dropout=0.3)
