"""Memory of tensors, counted by hand."""

import torch

from mmgfnuc.models.complexity import TensorMemory

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
