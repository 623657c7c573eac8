# NuInsSeg as the paper prepares it: stain-normalised in training and test.
from mmengine.config import read_base

with read_base():
    from .nuinsseg import *
    from ..augmentations.normalised import test_pipeline, train_pipeline

train_dataloader.dataset.update(pipeline=train_pipeline)
val_dataloader.dataset.update(pipeline=test_pipeline)
test_dataloader.dataset.update(pipeline=test_pipeline)
