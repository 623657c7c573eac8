# Attention U-Net (Oktay et al. 2018, arXiv:1804.03999) at the widths of the original U-Net: gated skips, deep supervision.
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import AttentionUNetHead

backbone = dict(type=UNetEncoder)
decode_head = dict(type=AttentionUNetHead, deep_supervision=True)
