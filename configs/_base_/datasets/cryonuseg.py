# CryoNuSeg (Mahbod et al. 2021): 30 images of 512x512 pixels at 40x. `organs` keeps every organ in one part.
from mmengine.config import read_base

with read_base():
    from .nuinsseg import *

train_dataloader.dataset.update(data_root='data/cryonuseg')
val_dataloader.dataset.update(data_root='data/cryonuseg')
test_dataloader.dataset.update(data_root='data/cryonuseg')
