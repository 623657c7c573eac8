# U-Net++ (Zhou et al. 2018, arXiv:1807.10165): nested dense skips, deep supervision.
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import UNetPlusPlusHead

backbone = dict(type=UNetEncoder, widths=(32, 64, 128, 256, 512))
decode_head = dict(type=UNetPlusPlusHead, deep_supervision=True)
