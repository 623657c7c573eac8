# The small ready model `he-nuclei-s`: a U-Net on EfficientNet-Lite0 (ImageNet) with the head `hover`. The recipe is that of
# configs/studies/recipe.yaml; docs/ready_models.md has the commands that made its data and weights.
from mmengine.config import read_base

from mmgfnuc.engine import BFloat16OptimWrapper
from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from .._base_.datasets.nuinsseg import *
    from .._base_.fusion.none import foundation, neck
    from .._base_.heads.hover import head
    from .._base_.schedules.adam_steps_ema import *
    from .._base_.unets.timm_unet import backbone, decode_head

backbone.update(model_name='tf_efficientnet_lite0', weights='tf_efficientnet_lite0.safetensors')
decode_head = dict(**head, decoder=decode_head)
model = dict(type=FusionSegmentor, backbone=backbone, foundation=foundation, neck=neck, decode_head=decode_head)
model.update(test_cfg=inference, bottleneck_dropout=0.3)
optim_wrapper.update(type=BFloat16OptimWrapper)
train_dataloader.update(batch_size=4, num_workers=1)
train_dataloader.sampler.update(balance=True)
train_dataloader.dataset.update(data_root='data/he', split='holdout')
val_dataloader.dataset.update(data_root='data/he', split='holdout')
test_dataloader.dataset.update(data_root='data/he', split='holdout')
train_cfg.update(max_iters=9000, val_interval=9000)
