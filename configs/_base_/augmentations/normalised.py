# The paper's augmentation with its stain normalisation, which takes the place of RandomIntensity. The paper names no
# method and no template: Macenko with the library's reference stains, so that a checkpoint needs no template beside it.
# For a template: template='data/nuinsseg/images/human_salivory_01.png', a training image. Needs torchstain.
from mmengine.config import read_base

from mmgfnuc.datasets.transforms import (
    PackNucleiInputs,
    RandomCLAHE,
    RandomGamma,
    RandomOrientation,
    RandomWarpCrop,
    Rescale,
    StainNormalize,
)

with read_base():
    from .paper import inference, scale, size

# First, on whole images, in training and test alike: the stains are told from all that is there.
normalise = dict(type=StainNormalize, method='macenko')
train_pipeline = [
    normalise,
    dict(type=Rescale, factor=scale),
    dict(type=RandomWarpCrop, size=size, prob=0.5, elastic=dict(alpha=3.0, sigma=16.0, prob=0.3)),
    dict(type=RandomOrientation),
    dict(type=RandomGamma),
    dict(type=RandomCLAHE),
    dict(type=PackNucleiInputs),
]
test_pipeline = [normalise, dict(type=PackNucleiInputs)]
