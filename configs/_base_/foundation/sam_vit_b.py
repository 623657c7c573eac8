# SAM ViT-B.
from mmgfnuc.models.foundation import foundation_encoder

foundation = dict(type=foundation_encoder, name='sam-vit-b')
