# U-Net3+ (Huang et al. 2020, arXiv:2004.08790): full-scale skips, deep supervision, classification-guided module.
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import UNet3PlusHead

backbone = dict(type=UNetEncoder)
decode_head = dict(type=UNet3PlusHead, skip_channels=64, deep_supervision=True, classification_guided=True)
