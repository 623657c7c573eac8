# The second released configuration: gates within the encoder, at every level, under learned projections of the context;
# the bottleneck attends within its gated map.
from mmgfnuc.models.necks import EncoderFusionNeck, GatedFusionBlock

neck = dict(
    type=EncoderFusionNeck, block=dict(type=GatedFusionBlock, preset='released', wiring='text'), blur_padding='zeros'
)
