# AWGUNet (Roy et al. 2024, arXiv:2406.08425): DenseNet-121 and the image itself as levels, wavelet-guided attention on each.
from mmgfnuc.models.backbones import TimmBackbone
from mmgfnuc.models.decode_heads import AWGUNetHead

backbone = dict(type=TimmBackbone, model_name='densenet121', out_indices=(0, 1, 2, 3), image_level=True)
decode_head = dict(type=AWGUNetHead)
