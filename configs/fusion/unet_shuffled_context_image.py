# The U-Net with ViT-Ti/16 features: control, `context` with the features of another image.
from mmengine.config import read_base

with read_base():
    from .unet_none import *
    from .._base_.foundation.vit_tiny import foundation
    from .._base_.fusion.shuffled_context_image import neck, partner_context

model.update(foundation=foundation, neck=neck, partner_context=partner_context)
train_dataloader.dataset.update(partner_images=True)
val_dataloader.dataset.update(partner_images=True)
test_dataloader.dataset.update(partner_images=True)
