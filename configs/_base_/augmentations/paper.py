# The paper's augmentation (flips, rotation, scaling, elastic, gamma, CLAHE) and input of 256x256 pixels. The paper does
# not say how it gets there; here images of 512x512 are seen whole, at half their resolution. RandomIntensity, this
# project's, stands in for its stain normalisation: see normalised.py.
from mmgfnuc.datasets.transforms import (
    PackNucleiInputs,
    RandomCLAHE,
    RandomGamma,
    RandomIntensity,
    RandomOrientation,
    RandomWarpCrop,
    Rescale,
)

scale = 0.5
size = 256
train_pipeline = [
    dict(type=Rescale, factor=scale),
    dict(type=RandomWarpCrop, size=size, prob=0.5, elastic=dict(alpha=3.0, sigma=16.0, prob=0.3)),
    dict(type=RandomOrientation),
    dict(type=RandomGamma),
    dict(type=RandomCLAHE),
    dict(type=RandomIntensity),
    dict(type=PackNucleiInputs),
]
# Predictions are made at the same resolution, in tiles of the same size, and scored at that of the images.
test_pipeline = [dict(type=PackNucleiInputs)]
inference = dict(scale=scale, tile=size)
