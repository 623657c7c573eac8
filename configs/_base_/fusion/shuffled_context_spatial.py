# Control: the fusion `context` with the foundation tokens at permuted positions.
from mmgfnuc.models.necks import ContextFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, block=dict(type=ContextFusionBlock), control='shuffled')
