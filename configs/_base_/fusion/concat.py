# Control: the context is projected, concatenated and convolved, without gate and attention.
from mmgfnuc.models.necks import ConcatFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, block=dict(type=ConcatFusionBlock))
