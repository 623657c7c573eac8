# The second released configuration: every level is gated, the bottleneck attends within its gated map.
from mmgfnuc.models.necks import GatedFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, levels='all', block=dict(type=GatedFusionBlock, preset='released', wiring='text'))
