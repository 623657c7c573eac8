# Control: the context is projected and added, without gate and attention.
from mmgfnuc.models.necks import AddFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=AddFusionBlock))
