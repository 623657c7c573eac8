# Generated H&E tiles of 256x256 pixels: tools/datasets/prepare.py synthetic --out data/synthetic
from mmengine.config import read_base

with read_base():
    from ..augmentations.paper import size
    from .nuinsseg import *

train_dataloader.dataset.update(data_root='data/synthetic', split='default')
val_dataloader.dataset.update(data_root='data/synthetic', split='default')
test_dataloader.dataset.update(data_root='data/synthetic', split='default')
# The tiles already have the resolution that is worked at: no Rescale.
train_dataloader.dataset.update(pipeline=train_dataloader.dataset.pipeline[1:])
inference = dict(tile=size)
