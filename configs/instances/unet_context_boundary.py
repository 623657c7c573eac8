# The arm of unet_context_semantic with the head `boundary`: boundaries are a class of their own.
from mmengine.config import read_base

with read_base():
    from .unet_context_semantic import *
    from .._base_.heads.boundary import head

model.decode_head.update(head)
