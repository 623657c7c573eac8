# Cross-attention from the gated local map to the foundation encoder's tokens, at the bottleneck.
from mmgfnuc.models.necks import ContextFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, block=dict(type=ContextFusionBlock))
