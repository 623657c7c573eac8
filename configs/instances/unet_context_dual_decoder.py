# The arm of unet_context_semantic with the head `dual-decoder`: a second decoder learns the distance map.
from mmengine.config import read_base

with read_base():
    from .unet_context_semantic import *
    from .._base_.heads.dual_decoder import head

model.decode_head.update(head)
