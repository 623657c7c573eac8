"""Memory of tensors and multiply-adds, counted by hand."""

import torch
from torch import nn

from mmgfnuc.models.complexity import TensorMemory, count_macs, on_meta

MEGABYTE = 10**6


def numbers(count):
    return torch.ones(count // 4)


def test_peak_is_what_is_held_at_a_time():
    with TensorMemory() as memory:
        first = numbers(MEGABYTE)
        second = first * 2
        del first
        third = second * 2
        del second
    assert memory.peak == 2 * MEGABYTE
    assert memory.held == MEGABYTE
    del third
    assert memory.held == 0


def test_views_and_what_was_there_before_hold_nothing():
    weight = numbers(MEGABYTE)
    with TensorMemory() as memory:
        view = weight.reshape(2, -1).t()
        weight.add_(1)
    assert memory.peak == 0
    assert view.shape[1] == 2


def test_a_chain_of_layers_holds_two_of_them():
    """Input (held by the caller) and output of a layer; what came before is free."""
    layers = [torch.nn.Linear(250, 250, bias=False) for _ in range(4)]
    images = torch.ones(1000, 250)
    with torch.inference_mode(), TensorMemory() as memory:
        torch.nn.Sequential(*layers)(images)
    assert memory.peak == 2 * MEGABYTE


def test_macs_by_hand():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=8, stride=2)
            self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)

        def forward(self, images):
            tokens = self.up(self.grouped(self.conv(images))).flatten(2).mT[:, None]
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    pixels = 16 * 16
    convolutions = pixels * 8 * 3 * 9 + pixels // 4 * 8 * 9 + pixels // 4 * 8 * 4 * 4
    attention = 2 * pixels * pixels * 4
    assert count_macs(on_meta(Network), 16) == convolutions + attention
