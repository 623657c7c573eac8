# The tiles of synthetic.py with their nucleus types: background, epithelial, lymphocyte, connective, that is
# num_classes=4 of the head. tools/datasets/prepare.py synthetic --out data/synthetic_typed --types
from mmengine.config import read_base

with read_base():
    from .synthetic import *

train_dataloader.dataset.update(data_root='data/synthetic_typed', types=True)
val_dataloader.dataset.update(data_root='data/synthetic_typed', types=True)
test_dataloader.dataset.update(data_root='data/synthetic_typed', types=True)
