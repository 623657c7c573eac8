# The residual U-Net (Zhang, Liu, Wang 2018, arXiv:1711.10684) with the attention gates of Attention U-Net (Oktay et al. 2018, arXiv:1804.03999); combined here, as several papers do in their own ways.
from mmgfnuc.models.backbones import ResidualUNetEncoder
from mmgfnuc.models.decode_heads import AttentionUNetHead

backbone = dict(type=ResidualUNetEncoder)
decode_head = dict(type=AttentionUNetHead, residual=True)
