# A U-Net (arXiv:1505.04597) on any encoder of timm, here ResNet-34 (arXiv:1512.03385): change `model_name`. Level 0 has stride 2 or 4; the logits are resized to the image.
from mmgfnuc.models.backbones import TimmBackbone
from mmgfnuc.models.decode_heads import UNetHead

backbone = dict(type=TimmBackbone, model_name='resnet34')
decode_head = dict(type=UNetHead)
