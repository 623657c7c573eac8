# Control: the paper's attention without its gate, so that no context enters.
from mmgfnuc.models.necks import GatedFusionBlock, GatedFusionNeck

neck = dict(type=GatedFusionNeck, block=dict(type=GatedFusionBlock, preset='attention-only'))
