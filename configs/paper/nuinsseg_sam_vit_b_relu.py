# Ablation over the encoder's activation: relu instead of glu.
from mmengine.config import read_base

with read_base():
    from .nuinsseg_sam_vit_b import *

model.backbone.update(activation='relu')
