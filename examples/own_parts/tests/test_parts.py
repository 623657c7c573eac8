import torch

from mmgfnuc.testing import (
    AuxiliaryLossBattery,
    BackboneBattery,
    FoundationEncoderBattery,
    FusionBlockBattery,
    InstanceHeadBattery,
)
from own_parts.encoder import PatchMixer
from own_parts.film import FilmBlock
from own_parts.inside import INSIDE, InsideHead, InsideLoss
from own_parts.strided import StridedEncoder


class TestPatchMixer(FoundationEncoderBattery):
    part = dict(type=PatchMixer, width=8, depth=2, weights='random')


class TestStridedEncoder(BackboneBattery):
    part = dict(type=StridedEncoder, widths=(4, 6, 8))


class TestFilmBlock(FusionBlockBattery):
    part = dict(type=FilmBlock)


class TestInsideHead(InstanceHeadBattery):
    part = dict(type=InsideHead)

    def auxiliary(self, truth):
        return (truth == INSIDE).float()


class TestInsideLoss(AuxiliaryLossBattery):
    part = dict(type=InsideLoss)
    target = InsideHead.target

    def right(self, truth, classes):
        return torch.where(truth == INSIDE, 10.0, -10.0)
