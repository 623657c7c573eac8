# Control: the fusion `context` with zeros in place of the foundation features.
from mmgfnuc.models.necks import ContextFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, block=dict(type=ContextFusionBlock), control='zero')
