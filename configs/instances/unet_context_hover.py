# The arm of unet_context_semantic with the head `hover`: a second decoder learns horizontal and vertical maps.
from mmengine.config import read_base

with read_base():
    from .unet_context_semantic import *
    from .._base_.heads.hover import head

model.decode_head.update(head)
