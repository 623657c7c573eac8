# Control: the fusion `context` with the foundation tokens at permuted positions.
from mmgfnuc.models.necks import ContextFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=ContextFusionBlock), control='shuffled')
