# The paper's augmentation at three quarters of the resolution of the images: crops of the same size, of less tissue.
from mmengine.config import read_base

with read_base():
    from .paper import inference, size, test_pipeline, train_pipeline

scale = 0.75
train_pipeline[0].update(factor=scale)
inference.update(scale=scale)
