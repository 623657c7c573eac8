"""The channel transformer of UCTransNet: the skips of all levels exchange what their channels hold."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from mmgfnuc.models.layers import ConvNormAct

# Pixels per side of a patch on the deepest skip; each shallower skip has patches of twice the side, so that one token
# stands for the same place on every level. Four skips: 16, 8, 4, 2, as in the authors' release.
DEEPEST_PATCH = 2
# Tokens per side of the learned position embedding: images of 224 pixels in the authors' release.
POSITION_GRID = 14
NORM_EPS = 1e-6


class ChannelEmbedding(nn.Module):
    """One skip as tokens: a strided convolution over patches plus a learned position embedding.

    The convolution keeps the number of channels. A map that is not `grid` patches large is resized to that size
    bilinearly, and so is the position embedding to the grid; at 224x224 pixels neither happens.

    Shape:
        skip (B, channels, H, W) -> tokens (B, h * w, channels), (h, w) = grid

    Source: Wang et al. 2022, "UCTransNet", section on CCT (multi-scale feature embedding).
    """

    def __init__(self, channels: int, patch_size: int, dropout: float) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.project = nn.Conv2d(channels, channels, patch_size, stride=patch_size)
        self.position = nn.Parameter(torch.zeros(1, channels, POSITION_GRID, POSITION_GRID))
        self.dropout = nn.Dropout(dropout)

    def forward(self, skip: Tensor, grid: tuple[int, int]) -> Tensor:
        """Embed one skip."""
        size = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        if tuple(skip.shape[-2:]) != size:
            skip = F.interpolate(skip, size, mode='bilinear', align_corners=False)
        position = F.interpolate(self.position, grid, mode='bilinear', align_corners=False)
        return self.dropout(self.project(skip) + position).flatten(2).transpose(1, 2)


class ChannelCrossAttention(nn.Module):
    """Multi-head attention from the channels of each level to the channels of all levels.

    With tokens T_i (N x C_i) of level i and all of them joined, T (N x C): Q_i = T_i W_i, K = T W_K, V = T W_V per
    head, `A_i = softmax(IN(Q_i' K / sqrt(C)))` (C_i x C; IN: instance normalisation of the scores of a head, without
    parameters), and the output is the mean of `V A_i'` over the heads, times an output matrix.

    Shape:
        tokens i: (B, N, channels[i]), joined (B, N, sum(channels)) -> i: (B, N, channels[i])

    Source: Wang et al. 2022, "UCTransNet", section on CCT (multi-head channel cross-attention).
    """

    def __init__(self, channels: Sequence[int], num_heads: int, dropout: float) -> None:
        super().__init__()
        joined = sum(channels)
        self.num_heads = num_heads
        self.queries = nn.ModuleList(nn.Linear(c, num_heads * c, bias=False) for c in channels)
        self.key = nn.Linear(joined, num_heads * joined, bias=False)
        self.value = nn.Linear(joined, num_heads * joined, bias=False)
        self.outs = nn.ModuleList(nn.Linear(c, c, bias=False) for c in channels)
        self.weight_dropout = nn.Dropout(dropout)
        self.out_dropout = nn.Dropout(dropout)

    def _heads(self, tokens: Tensor, project: nn.Module) -> Tensor:
        """(B, N, C) -> (B, heads, N, C); a head has all channels."""
        return project(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, tokens: Sequence[Tensor], joined: Tensor) -> list[Tensor]:
        """Attend from every level."""
        key, value = self._heads(joined, self.key), self._heads(joined, self.value)
        attended = []
        for level, project, out in zip(tokens, self.queries, self.outs, strict=True):
            scores = self._heads(level, project).mT @ key / math.sqrt(joined.shape[2])
            weights = self.weight_dropout(F.instance_norm(scores).softmax(dim=3))
            attended.append(self.out_dropout(out((value @ weights.mT).mean(dim=1))))
        return attended


class ChannelTransformerLayer(nn.Module):
    """Channel-wise cross-attention, then a feed-forward part per level; both pre-norm and residual.

    Shape:
        tokens i: (B, N, channels[i]) -> i: (B, N, channels[i])

    Source: Wang et al. 2022, "UCTransNet", section on CCT; norms and residuals from the authors' release.
    """

    def __init__(self, channels: Sequence[int], num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norms = nn.ModuleList(nn.LayerNorm(c, eps=NORM_EPS) for c in channels)
        self.joined_norm = nn.LayerNorm(sum(channels), eps=NORM_EPS)
        self.attention = ChannelCrossAttention(channels, num_heads, dropout)
        self.mlp_norms = nn.ModuleList(nn.LayerNorm(c, eps=NORM_EPS) for c in channels)
        self.mlps = nn.ModuleList(Mlp(c, 4 * c) for c in channels)

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Run one layer on all levels."""
        joined = self.joined_norm(torch.cat(list(tokens), dim=2))
        normed = [norm(level) for norm, level in zip(self.attention_norms, tokens, strict=True)]
        attended = self.attention(normed, joined)
        tokens = [level + change for level, change in zip(tokens, attended, strict=True)]
        return [level + mlp(norm(level)) for level, norm, mlp in zip(tokens, self.mlp_norms, self.mlps, strict=True)]


class Reconstruction(nn.Module):
    """Tokens back to a map: 1x1 convolution, batch normalisation, ReLU, nearest up-sampling.

    The original up-samples first. The rest works pixel by pixel, and up-sampling to whole patches only repeats pixels,
    so that the result is the same there (except for the factor n / (n - 1) of the running variance); here it is
    computed once per token instead of once per pixel.

    Shape:
        tokens (B, h * w, channels), (h, w) = grid -> (B, channels, *size)

    Source: Wang et al. 2022, "UCTransNet", section on CCT (reconstruction).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.project = ConvNormAct(channels, channels, kernel_size=1)

    def forward(self, tokens: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Reconstruct one level."""
        x = self.norm(tokens).transpose(1, 2).unflatten(2, grid)
        return F.interpolate(self.project(x), size, mode='nearest')


class ChannelTransformer(nn.Module):
    """Skips -> skips, each with what it draws from the channels of all: embedding, layers, reconstruction, residual.

    Any size and any strides work: the grid has one token for every patch of the shallowest skip, rounded up, and each
    level is resized to whole patches of that grid.

    Shape:
        skip i: (B, channels[i], H_i, W_i) -> i: (B, channels[i], H_i, W_i)

    Source: Wang et al. 2022, "UCTransNet", section on CCT; patch sizes from the authors' release.
    """

    def __init__(self, channels: Sequence[int], num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        patches = [DEEPEST_PATCH * 2**level for level in reversed(range(len(channels)))]
        self.embeddings = nn.ModuleList(
            ChannelEmbedding(c, patch, dropout) for c, patch in zip(channels, patches, strict=True)
        )
        self.layers = nn.ModuleList(ChannelTransformerLayer(channels, num_heads, dropout) for _ in range(num_layers))
        self.reconstructions = nn.ModuleList(Reconstruction(c) for c in channels)
        self.patch_size = patches[0]

    def forward(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """Fuse the skips, shallow first."""
        height, width = skips[0].shape[-2:]
        grid = (math.ceil(height / self.patch_size), math.ceil(width / self.patch_size))
        tokens = [embed(skip, grid) for embed, skip in zip(self.embeddings, skips, strict=True)]
        for layer in self.layers:
            tokens = layer(tokens)
        return [
            skip + reconstruct(level, grid, tuple(skip.shape[-2:]))
            for skip, reconstruct, level in zip(skips, self.reconstructions, tokens, strict=True)
        ]
