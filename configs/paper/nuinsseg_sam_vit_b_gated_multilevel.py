# The fusion 'gated-multilevel' of this project instead of that of the paper's text and figures.
from mmengine.config import read_base

with read_base():
    from .nuinsseg_sam_vit_b import *
    from .._base_.fusion.gated_multilevel import neck

model.update(neck=neck)
