# ViT-Ti/16 with ImageNet supervision: the small encoder of the CPU configs.
from mmgfnuc.models.foundation import foundation_encoder

foundation = dict(type=foundation_encoder, name='vit-tiny')
