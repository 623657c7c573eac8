# Ablation over the size of SAM: ViT-L instead of ViT-B.
from mmengine.config import read_base

with read_base():
    from .nuinsseg_sam_vit_b import *
    from .._base_.foundation.sam_vit_l import foundation

model.update(foundation=foundation)
