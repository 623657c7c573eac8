# The paper's augmentation (flips, rotation, scaling, elastic, gamma, CLAHE), on crops of 256x256 pixels.
from mmgfnuc.datasets.transforms import (
    PackNucleiInputs,
    RandomCLAHE,
    RandomGamma,
    RandomIntensity,
    RandomOrientation,
    RandomWarpCrop,
)

crop = dict(type=RandomWarpCrop, size=256, prob=0.5, elastic=dict(alpha=3.0, sigma=16.0, prob=0.3))
train_pipeline = [
    crop,
    dict(type=RandomOrientation),
    dict(type=RandomGamma),
    dict(type=RandomCLAHE),
    dict(type=RandomIntensity),
    dict(type=PackNucleiInputs),
]
test_pipeline = [dict(type=PackNucleiInputs)]
# Larger images are predicted in tiles of the size of the crops (pixels).
tiles = dict(tile=256, overlap=64)
