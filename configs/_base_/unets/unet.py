# The original U-Net (Ronneberger et al. 2015, arXiv:1505.04597).
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import UNetHead

backbone = dict(type=UNetEncoder)
decode_head = dict(type=UNetHead)
