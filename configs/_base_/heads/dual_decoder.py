# A second decoder learns the distance map (Mahbod et al. 2022, doi:10.3389/fmed.2022.978146).
from mmgfnuc.models.decode_heads import DualDecoderHead

head = dict(type=DualDecoderHead)
