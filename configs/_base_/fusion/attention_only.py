# Control: the paper's attention without its gate, so that no context enters.
from mmgfnuc.models.necks import GatedFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=GatedFusionBlock, preset='attention-only'))
