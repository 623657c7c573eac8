# Control: the paper's gate without its attention.
from mmgfnuc.models.necks import GatedFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=GatedFusionBlock, preset='gate-only'))
