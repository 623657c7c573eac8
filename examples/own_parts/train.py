# Own encoder, own U-Net encoder and own fusion block, on the synthetic tiles.
from mmengine.config import read_base
from own_parts.encoder import PatchMixer
from own_parts.film import FilmBlock
from own_parts.strided import StridedEncoder

from mmgfnuc.models.decode_heads import UNetHead
from mmgfnuc.models.necks import FusionNeck
from mmgfnuc.models.segmentors import FusionSegmentor

with read_base():
    from mmgfnuc.configs._base_.datasets.synthetic import *
    from mmgfnuc.configs._base_.schedules.adam_steps import *

model = dict(
    type=FusionSegmentor,
    backbone=dict(type=StridedEncoder, widths=(16, 32, 64, 128)),
    foundation=dict(type=PatchMixer, weights='random'),
    neck=dict(type=FusionNeck, block=dict(type=FilmBlock)),
    decode_head=dict(type=UNetHead),
    test_cfg=inference,
)
train_dataloader.update(batch_size=4, num_workers=1)
