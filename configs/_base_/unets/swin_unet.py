# Swin-UNet (Cao et al. 2021, arXiv:2105.05537): Swin transformer blocks in encoder and decoder.
from mmgfnuc.models.backbones import SwinUNetEncoder
from mmgfnuc.models.decode_heads import SwinUNetHead

backbone = dict(type=SwinUNetEncoder)
decode_head = dict(type=SwinUNetHead)
