# Control: the fusion `context` with zeros in place of the foundation features.
from mmgfnuc.models.necks import ContextFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=ContextFusionBlock), control='zero')
