# Every level is gated after the encoder by the block of the release; the bottleneck attends within its gated map, as the
# paper's text says. A variant of this project: the release has no such configuration, see released_multilevel.
from mmgfnuc.models.necks import GatedFusionBlock, FusionNeck

neck = dict(type=FusionNeck, levels='all', block=dict(type=GatedFusionBlock, preset='released', wiring='text'))
