# Control: the paper's gate without its attention.
from mmgfnuc.models.necks import GatedFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, block=dict(type=GatedFusionBlock, preset='gate-only'))
