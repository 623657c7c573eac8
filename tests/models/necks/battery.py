"""What every fusion block must do. Inherit `FusionBlockBattery`, define `build`, and parametrize over the settings."""

import math
from abc import ABC, abstractmethod

import pytest
import torch
from torch import nn

from ..tiny import assert_round_trip, fill_with_noise

CHANNELS, CONTEXT_CHANNELS = 8, 6


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def to_tokens(x):
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).mT


def official_attention(own):
    """PyTorch's attention with the weights of a TokenAttention; it takes and gives (B, tokens, C)."""
    official = nn.MultiheadAttention(own.query.in_features, own.num_heads, batch_first=True).eval()
    official.load_state_dict(
        {
            'in_proj_weight': torch.cat([own.query.weight, own.key.weight, own.value.weight]),
            'in_proj_bias': torch.cat([own.query.bias, own.key.bias, own.value.bias]),
            'out_proj.weight': own.out.weight,
            'out_proj.bias': own.out.bias,
        }
    )
    return official


@torch.no_grad()
def entropy_by_loops(own, query, key):
    """Entropy of each row of the weights that PyTorch's attention gives: query by query, key by key."""
    tokens = to_tokens(key)
    rows = official_attention(own)(to_tokens(query), tokens, tokens, average_attn_weights=False)[1]
    entropies = [-sum(p * math.log(p) for p in row if p > 0) for row in rows.flatten(0, 2).tolist()]
    return torch.tensor(entropies).reshape(len(query), own.num_heads, *query.shape[-2:])


@torch.no_grad()
def gate_by_loops(gate, local, context):
    """Gate values of each image from the means of its channels, by the formula."""
    values = []
    for own, other in zip(local, context, strict=True):
        z = [channel.mean().item() for channel in (*own, *other)]
        hidden = [max(value, 0.0) for value in affine(gate.squeeze, z)]
        excited = affine(gate.excite, hidden)
        if gate.gate == 'glu':
            content, switch = excited[: len(own)], excited[len(own) :]
        else:
            content, switch = [1.0] * len(own), excited
        values.append([c / (1 + math.exp(-s)) for c, s in zip(content, switch, strict=True)])
    return torch.tensor(values)


def affine(linear, x):
    rows = zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
    return [sum(w * v for w, v in zip(row, x, strict=True)) + bias for row, bias in rows]


class FusionBlockBattery(ABC):
    """The contract: local (B, C, H, W) and context (B, D, h, w) -> (B, C, H, W)."""

    @abstractmethod
    def build(self, settings):
        """A block of CHANNELS and CONTEXT_CHANNELS. `settings` comes from a fixture of the inheriting class."""

    def explained(self, block, local, context):
        """What `explain` must return, computed without it."""
        return {}

    def features(self, block, batch=2, size=(5, 7), grid=(3, 4)):
        """Random features; those of the context at the grid of the level where the block wants that."""
        shapes = (CHANNELS, *size), (CONTEXT_CHANNELS, *(grid if block.takes_tokens else size))
        return [torch.randn(batch, *shape) for shape in shapes]

    @pytest.mark.parametrize('batch', [1, 2])
    @pytest.mark.parametrize('size', [(12, 16), (5, 7), (1, 9), (1, 1)])
    def test_shapes(self, settings, size, batch):
        block = self.build(settings).eval()
        for grid in ((3, 4), (1, 1), (9, 5)):
            local, context = self.features(block, batch, size, grid)
            fused = block(local, context)
            assert fused.shape == local.shape
            assert fused.isfinite().all()

    def test_inputs_are_not_changed(self, settings):
        block = fill_with_noise(self.build(settings)).train()
        features = self.features(block)
        before = [feature.clone() for feature in features]
        block(*features)
        assert all(torch.equal(feature, old) for feature, old in zip(features, before, strict=True))

    def test_every_parameter_gets_a_gradient_by_the_second_step(self, settings):
        block = self.build(settings).train()
        local, context = self.features(block)
        optimizer = torch.optim.Adam(block.parameters(), lr=1e-2)
        reached = set()
        for _ in range(2):
            optimizer.zero_grad()
            (block(local, context) - torch.ones_like(local)).square().mean().backward()
            for name, parameter in block.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
                if parameter.grad.any():
                    reached.add(name)
            optimizer.step()
        # A bias of the keys adds the same to all scores of a query: its gradient is zero but for rounding.
        missing = {name for name, _ in block.named_parameters()} - reached
        assert missing <= {'attention.key.bias'}

    def test_state_dict_round_trip(self, settings):
        block = self.build(settings)
        assert_round_trip(block, self.build(settings), *self.features(block))

    def test_evaluation_is_deterministic_and_image_by_image(self, settings):
        block = fill_with_noise(self.build(settings), 0.5).eval()
        features = self.features(block)
        with torch.no_grad():
            fused = block(*features)
            torch.testing.assert_close(block(*features), fused, rtol=0, atol=0)
            alone = [block(*(feature[i : i + 1] for feature in features)) for i in range(2)]
            torch.testing.assert_close(torch.cat(alone), fused)

    def test_finite_in_bfloat16(self, settings):
        block = self.build(settings).train()
        with torch.autocast('cpu', torch.bfloat16):
            fused = block(*self.features(block))
            assert all(value.isfinite().all() for value in block.explain(*self.features(block)).values())
        assert fused.isfinite().all()
        fused.float().square().mean().backward()
        assert all(parameter.grad.isfinite().all() for parameter in block.parameters())

    def test_explains_what_it_does(self, settings):
        block = fill_with_noise(self.build(settings), 0.5)
        features = self.features(block)
        done, expected = block.explain(*features), self.explained(block, *features)
        assert done.keys() == expected.keys()
        for key, value in done.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)
            assert not value.requires_grad

    def test_explaining_changes_nothing(self, settings):
        """Not the features, the weights and buffers, the modes, the random numbers, the gradients or the output."""
        block = fill_with_noise(self.build(settings), 0.5).train()
        features = self.features(block)
        copies = [feature.clone() for feature in features]
        state = {key: value.clone() for key, value in block.state_dict().items()}
        modes = [module.training for module in block.modules()]
        random = torch.get_rng_state()
        block.explain(*features)
        assert torch.equal(torch.get_rng_state(), random)
        assert all(torch.equal(feature, copy) for feature, copy in zip(features, copies, strict=True))
        assert all(torch.equal(value, state[key]) for key, value in block.state_dict().items())
        assert [module.training for module in block.modules()] == modes
        assert all(parameter.grad is None and parameter.requires_grad for parameter in block.parameters())
        fused = block(*features)
        assert fused.requires_grad
        other = self.build(settings).train()
        other.load_state_dict(state)
        torch.set_rng_state(random)
        torch.testing.assert_close(fused, other(*features), rtol=0, atol=0)
