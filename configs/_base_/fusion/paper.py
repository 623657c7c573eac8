# The paper's text and figures: GLU gate, queries from the gated map, at the bottleneck.
from mmgfnuc.models.necks import GatedFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, block=dict(type=GatedFusionBlock, preset='paper'))
