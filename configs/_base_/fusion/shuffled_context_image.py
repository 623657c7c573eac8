# Control: the fusion `context` with the foundation features of another image. The data must give that image:
# `partner_images=True` in every dataset.
from mmgfnuc.models.necks import ContextFusionBlock, FusionNeck

neck = dict(type=FusionNeck, block=dict(type=ContextFusionBlock))
partner_context = True
