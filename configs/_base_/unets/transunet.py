# TransUNet (Chen et al. 2021): R50-ViT-B/16 hybrid encoder, cascaded up-sampler.
from mmgfnuc.models.backbones import TransUNetEncoder
from mmgfnuc.models.decode_heads import TransUNetHead

backbone = dict(type=TransUNetEncoder)
decode_head = dict(type=TransUNetHead)
