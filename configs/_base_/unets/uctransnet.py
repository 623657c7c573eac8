# UCTransNet (Wang et al. 2022, arXiv:2109.04335): a U-Net whose skips pass a channel transformer and gates.
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import UCTransNetHead

backbone = dict(type=UNetEncoder, widths=(64, 128, 256, 512, 512), convs_per_stage=(1, 2))
decode_head = dict(type=UCTransNetHead)
