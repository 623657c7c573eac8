# For images of other laboratories than those trained on: every sample is warped, and most are stained anew.
# In a leaf: from .._base_.augmentations.strong import train_pipeline, below the dataset, and
# train_dataloader.dataset.update(pipeline=train_pipeline).
from mmengine.config import read_base

from mmgfnuc.datasets.transforms import (
    PackNucleiInputs,
    RandomCLAHE,
    RandomGamma,
    RandomHED,
    RandomIntensity,
    RandomOrientation,
    RandomWarpCrop,
    RandStainNA,
    Rescale,
)

with read_base():
    from .paper import inference, scale, size, test_pipeline

train_pipeline = [
    dict(type=Rescale, factor=scale),
    dict(type=RandomWarpCrop, size=size, scale=(0.7, 1.43), elastic=dict(alpha=4.0, sigma=16.0, prob=0.5)),
    dict(type=RandomOrientation),
    dict(type=RandStainNA),
    dict(type=RandomHED, sigma=0.2),
    dict(type=RandomGamma),
    dict(type=RandomCLAHE),
    dict(type=RandomIntensity, brightness=0.15, contrast=0.25, tint=0.1),
    dict(type=PackNucleiInputs),
]
