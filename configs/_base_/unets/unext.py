# UNeXt (Valanarasu and Patel 2022, arXiv:2203.04967): three convolution stages, two tokenized-MLP stages, a light decoder.
from mmgfnuc.models.backbones import UNeXtEncoder
from mmgfnuc.models.decode_heads import UNeXtHead

backbone = dict(type=UNeXtEncoder)
decode_head = dict(type=UNeXtHead)
