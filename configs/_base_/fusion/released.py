# The released variant: sigmoid gate, queries from the gated map, at the bottleneck. Its pools pad their blur with zeros;
# those of the host do so where its backbone is given blur_padding='zeros', as in configs/paper.
from mmgfnuc.models.necks import GatedFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=GatedFusionBlock, preset='released'), blur_padding='zeros')
