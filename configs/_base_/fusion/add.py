# Control: the context is projected and added, without gate and attention.
from mmgfnuc.models.necks import AddFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, block=dict(type=AddFusionBlock))
