# CoNIC (Graham et al. 2024): patches of 256x256 pixels at 20x. `baseline` is the split of the challenge's baseline.
from mmengine.config import read_base

with read_base():
    from ..augmentations.paper import size
    from .nuinsseg import *

train_dataloader.dataset.update(data_root='data/conic', split='baseline')
val_dataloader.dataset.update(data_root='data/conic', split='baseline')
test_dataloader.dataset.update(data_root='data/conic', split='baseline')
# 20x is the resolution that is worked at: no Rescale.
train_dataloader.dataset.update(pipeline=train_dataloader.dataset.pipeline[1:])
inference = dict(tile=size)
