"""Plain modules as foundation encoders keep the contract."""

import torch
import torch.nn.functional as F
from torch import nn

from mmgfnuc.testing import FoundationEncoderBattery


class Pyramid(nn.Module):
    """Two maps, with a batch norm; no attention."""

    out_channels, out_strides = (8, 16), (4, 16)
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self):
        super().__init__()
        self.shallow = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.SiLU())
        self.deep = nn.Conv2d(8, 16, 4, 4)

    def forward(self, images):
        shallow = self.shallow(images)
        return [shallow, self.deep(shallow)]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, tokens):
        return tokens + self.proj(F.scaled_dot_product_attention(*self.qkv(self.norm(tokens)).chunk(3, -1)))


class Transformer(nn.Module):
    """One map of patches of 8 pixels."""

    out_channels, out_strides = (16,), (8,)
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.ModuleList(nn.ModuleDict({'attn': Attention()}) for _ in range(2))

    def forward(self, images):
        embedded = self.embed(images)
        tokens = embedded.flatten(2).mT
        for block in self.blocks:
            tokens = block['attn'](tokens)
        return tokens.mT.unflatten(2, embedded.shape[2:])


class Pretrained(Pyramid):
    """Its constructor gives it its weights."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=0.3, generator=generator)


class TestEncoders(FoundationEncoderBattery):
    parts = [dict(type=Pyramid), dict(type=Transformer)]


class TestPretrained(FoundationEncoderBattery):
    part = dict(type=Pretrained)
    unfiled = {}
