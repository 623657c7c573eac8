"""SAM's attention without its matrix of all pairs of tokens."""

import itertools
import math

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor

# Up to this many tokens the bias of all pairs is small and the fastest way (measured: windows of 196 tokens).
MAX_BIASED_TOKENS = 1024
# Queries whose bias is held at once, and how many of them PyTorch's kernel gives to one thread.
CHUNK = 1024
QUERIES_PER_TASK = 256


class FusedAttention(Attention):
    """Attention with decomposed relative positions, through PyTorch's fused kernels; channels last.

    `softmax(q k' / sqrt(d) + q R_rows' + q R_columns') v` per head: query i and key j exchange the embedding of their
    distance in rows and that of their distance in columns. The parameters and the result are segment-anything's.

    segment-anything adds the two terms to the scores of all pairs of tokens. Here, with a = q R_rows' (one number for
    each row of keys) and b = q R_columns', one of three ways is taken, the fastest measured:

    - on a CPU without gradients a + b is given to the kernel as its bias, for some heads and queries at a time;
    - else, with few tokens (windows), so it is for all at once;
    - else the terms are folded into the product: `[q / sqrt(d), a, b] [k, one-hot row of k, one-hot column of k]'` is
      the same sum.

    In none of them does a matrix of all pairs of many tokens exist.

    Shape:
        (B, H, W, C) -> (B, H, W, C)

    Source: Kirillov et al. 2023, "Segment Anything"; Li et al. 2022, "MViTv2", section 4.1 (decomposed relative
    positions).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to every token."""
        height, width = x.shape[1:3]
        # (B, H, W, 3 C) -> 3 times (B, heads, H * W, C / heads)
        query, key, value = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        places = query.unflatten(2, (height, width))
        rows = torch.einsum('bnhwc,hkc->bnhwk', places, get_rel_pos(height, height, self.rel_pos_h)).flatten(2, 3)
        columns = torch.einsum('bnhwc,wkc->bnhwk', places, get_rel_pos(width, width, self.rel_pos_w)).flatten(2, 3)
        if x.device.type == 'cpu' and not query.requires_grad:
            attended = _by_chunks(query, key, value, rows, columns)
        elif height * width <= MAX_BIASED_TOKENS:
            bias = (rows[..., :, None] + columns[..., None, :]).flatten(3)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            attended = self._folded(query, key, value, rows, columns)
        return self.proj(attended.transpose(1, 2).flatten(2).unflatten(1, (height, width)))

    def _folded(self, query: Tensor, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        height, width = rows.shape[-1], columns.shape[-1]
        code = torch.cat(
            [
                torch.eye(height, dtype=key.dtype, device=key.device).repeat_interleave(width, dim=0),
                torch.eye(width, dtype=key.dtype, device=key.device).repeat(height, 1),
            ],
            dim=1,
        )
        query = torch.cat([query * self.scale, rows, columns], dim=-1)
        key = torch.cat([key, code.expand(*key.shape[:2], -1, -1)], dim=-1)
        # The kernels that never form all pairs want values as wide as queries and keys.
        channels = value.shape[-1]
        value = F.pad(value, (0, query.shape[-1] - channels))
        return F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :channels]


def _by_chunks(query: Tensor, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attend from CHUNK queries of as few heads as occupy all threads, so that the bias stays in the cache."""
    images, heads, tokens = query.shape[:3]
    chunk = min(CHUNK, tokens)
    at_once = math.ceil(torch.get_num_threads() * QUERIES_PER_TASK / (chunk * images))
    attended = query.new_empty(images, tokens, heads, query.shape[-1]).transpose(1, 2)
    buffer = query.new_empty(images, at_once, chunk, rows.shape[-1], columns.shape[-1])
    for head, start in itertools.product(range(0, heads, at_once), range(0, tokens, chunk)):
        some = slice(head, head + at_once)
        part = (slice(None), some, slice(start, start + CHUNK))
        bias = buffer[:, : query[part].shape[1], : query[part].shape[2]]
        torch.add(rows[part][..., None], columns[part][..., None, :], out=bias)
        attended[part] = F.scaled_dot_product_attention(
            query[part], key[:, some], value[:, some], attn_mask=bias.flatten(3)
        )
    return attended


def use_fused_attention(encoder: ImageEncoderViT) -> None:
    """Replace each block's attention by FusedAttention; its parameters stay the same tensors."""
    for block in encoder.blocks:
        block.attn.__class__ = FusedAttention
