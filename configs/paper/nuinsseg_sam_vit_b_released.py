# The fusion of the authors' release ('released') instead of that of the paper's text and figures, with the weight decay of
# the release and its border of the blur, in the host's pools too.
from mmengine.config import read_base

with read_base():
    from .nuinsseg_sam_vit_b import *
    from .._base_.fusion.released import neck
    from .._base_.schedules.adam_50e_decay import optim_wrapper

model.update(neck=neck)
model.backbone.update(blur_padding='zeros')
