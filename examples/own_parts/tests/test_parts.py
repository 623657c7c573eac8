import torch
from own_parts.encoder import PatchMixer
from own_parts.film import FilmBlock
from own_parts.inside import InsideHead, InsideLoss
from own_parts.strided import StridedEncoder

from mmgfnuc.testing import AuxiliaryLossBattery, BackboneBattery, FoundationEncoderBattery, FusionBlockBattery


class TestPatchMixer(FoundationEncoderBattery):
    part = dict(type=PatchMixer, width=8, depth=2)


class TestStridedEncoder(BackboneBattery):
    part = dict(type=StridedEncoder, widths=(4, 6, 8))


class TestFilm(FusionBlockBattery):
    part = dict(type=FilmBlock)
