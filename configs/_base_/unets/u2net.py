# U2-Net (Qin et al. 2020, arXiv:2005.09007): residual U-blocks, six side outputs and their fusion.
from mmgfnuc.models.backbones import U2NetEncoder
from mmgfnuc.models.decode_heads import U2NetHead

backbone = dict(type=U2NetEncoder)
decode_head = dict(type=U2NetHead)
