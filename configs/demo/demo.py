# The paper's architecture at small width on synthetic tiles. Its foundation encoder has the shape of SAM, but RANDOM
# weights: the demo shows that everything runs, not what a foundation model brings.
from mmengine.config import read_base

from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.synthetic import *
    from .._base_.fusion.paper import neck
    from .._base_.schedules.adam_steps import *
    from .._base_.unets.eunet3plus import backbone, decode_head

small_sam = dict(embed_dim=96, depth=4, num_heads=3, global_attn_indexes=(1, 3))
foundation = dict(type=foundation_encoder, name='sam-vit-b', arch=small_sam, weights='random', input_size=None)
backbone.update(widths=(8, 16, 32, 64, 128))
decode_head.update(skip_channels=8)
model = dict(type=FusionSegmentor, backbone=backbone, foundation=foundation, neck=neck, decode_head=decode_head)
model.update(test_cfg=inference)
train_dataloader.update(batch_size=8, num_workers=1)
train_dataloader.dataset.pipeline[0].update(size=128)
train_cfg.update(max_iters=200, val_interval=200)
