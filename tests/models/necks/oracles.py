"""What fusion blocks compute, by loops and by PyTorch's own attention."""

import math

import torch
from torch import nn

from mmgfnuc.testing import FusionBlockBattery, fill_with_noise


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


class ExplainedBattery(FusionBlockBattery):
    """What a block explains is what it does, computed in another way."""

    may_stay = ('attention.key.bias',)

    def explained(self, block, local, context):
        """What `explain` must return, computed without it."""
        return {}

    def test_explains_what_it_does(self, config):
        block = fill_with_noise(self.build(config), 0.5)
        features = self.features(block)
        done, expected = block.explain(*features), self.explained(block, *features)
        assert done.keys() == expected.keys()
        for key, value in done.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)
