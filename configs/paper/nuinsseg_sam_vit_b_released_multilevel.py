# The second configuration of the authors' release, the one that its settings for NuInsSeg name: gates within the encoder,
# at every level. The rest as in nuinsseg_sam_vit_b_released.
from mmengine.config import read_base

with read_base():
    from .nuinsseg_sam_vit_b_released import *
    from .._base_.fusion.released_multilevel import neck

model.update(neck=neck)
