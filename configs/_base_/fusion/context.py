# Cross-attention from the gated local map to the foundation encoder's tokens, at the bottleneck.
from mmgfnuc.models.necks import ContextFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=ContextFusionBlock))
