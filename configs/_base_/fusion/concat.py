# Control: the context is projected, concatenated and convolved, without gate and attention.
from mmgfnuc.models.necks import ConcatFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=ConcatFusionBlock))
