# ViT-Ti/16 with ImageNet supervision: the small encoder of the CPU configs. Four layers, from fine to abstract.
from mmgfnuc.models.foundation import TimmViTEncoder

foundation = dict(
    type=TimmViTEncoder, model_name='vit_tiny_patch16_224', weights='vit_tiny_patch16_224', out_layers=(2, 5, 8, 11)
)
