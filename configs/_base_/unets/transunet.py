# TransUNet (Chen et al. 2021, arXiv:2102.04306): R50-ViT-B/16 hybrid encoder, cascaded up-sampler.
from mmgfnuc.models.backbones import TransUNetEncoder
from mmgfnuc.models.decode_heads import TransUNetHead

backbone = dict(type=TransUNetEncoder)
decode_head = dict(type=TransUNetHead)
