# DDU-Net, after the abstract (Wang et al. 2022, arXiv:2201.06750): dilated attention at the bottleneck, a main and a small decoder.
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import DDUNetHead

backbone = dict(type=UNetEncoder)
decode_head = dict(type=DDUNetHead)
