# The paper's text and figures: GLU gate, queries from the gated map, at the bottleneck.
from mmgfnuc.models.necks import GatedFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=GatedFusionBlock, preset='paper'))
