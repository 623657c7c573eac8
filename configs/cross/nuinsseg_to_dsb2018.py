# Trained on all of NuInsSeg, tested on the stained images of DSB2018 (`prepare.py folders`): another laboratory's tissue,
# stain and microscope. The pixel sizes of both are unknown; by the medians of their nuclei (29 and 19 pixels across),
# an image of DSB2018 at 0.75 of its size looks like one of NuInsSeg at half of its own.
from mmengine.config import read_base

with read_base():
    from ..fusion.unet_concat import *

train_dataloader.dataset.update(split=None)
val_dataloader.dataset.update(data_root='data/dsb2018_stained', split=None)
test_dataloader.dataset.update(data_root='data/dsb2018_stained', split=None)
# As the recorded run; configs/fusion has 0.3, so its scores compare with these only where it is set to 0 too.
model.update(bottleneck_dropout=0.0)
model.test_cfg.update(scale=0.75)
train_cfg.update(max_iters=600, val_interval=600)
