# Deep residual U-Net (Zhang, Liu, Wang 2018, arXiv:1711.10684): pre-activation residual units, strided convolutions, four levels.
from mmgfnuc.models.backbones import ResidualUNetEncoder
from mmgfnuc.models.decode_heads import UNetHead

backbone = dict(type=ResidualUNetEncoder)
decode_head = dict(type=UNetHead, residual=True)
