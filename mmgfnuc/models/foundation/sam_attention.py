"""SAM's attention without its matrix of all pairs of tokens."""

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor

# Up to this many tokens the bias of all pairs is small and the fastest way (measured: windows of 196 tokens).
MAX_BIASED_TOKENS = 1024
# Queries whose bias is held at once.
CHUNK = 256


class FusedAttention(Attention):
    """Attention with decomposed relative positions, through PyTorch's fused kernels; channels last.

    `softmax(q k' / sqrt(d) + q R_rows' + q R_columns') v` per head: query i and key j exchange the embedding of their
    distance in rows and that of their distance in columns. The parameters and the result are segment-anything's.

    segment-anything adds the two terms to the scores of all pairs of tokens. Here, with a = q R_rows' (one number for
    each row of keys) and b = q R_columns', one of three ways is taken, the fastest measured:

    - few tokens (windows): a + b is given to the kernel as its bias;
    - many tokens, on a CPU without gradients: so it is for some queries at a time, in one buffer;
    - else the terms are folded into the product: `[q / sqrt(d), a, b] [k, one-hot row of k, one-hot column of k]'` is
      the same sum.

    In none of them does a matrix of all pairs of many tokens exist.

    Shape:
        (B, H, W, C) -> (B, H, W, C)

    Source: Kirillov et al. 2023, "Segment Anything"; Li et al. 2022, "MViTv2", section 4.1 (decomposed relative
    positions); the three ways: code: own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to every token."""
        height, width = x.shape[1:3]
        # (B, H, W, 3 C) -> 3 times (B, heads, H * W, C / heads)
        query, key, value = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        places = query.unflatten(2, (height, width))
        rows = torch.einsum('bnhwc,hkc->bnhwk', places, get_rel_pos(height, height, self.rel_pos_h)).flatten(2, 3)
        columns = torch.einsum('bnhwc,wkc->bnhwk', places, get_rel_pos(width, width, self.rel_pos_w)).flatten(2, 3)
        if height * width <= MAX_BIASED_TOKENS:
            bias = (rows[..., :, None] + columns[..., None, :]).flatten(3)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        elif x.device.type == 'cpu' and not query.requires_grad:
            attended = _by_chunks(query, key, value, rows, columns)
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
    """Attend from CHUNK queries at a time: their bias is written into one buffer, which is not allocated each time."""
    attended = torch.empty_like(query)
    buffer = query.new_empty(*query.shape[:2], CHUNK, rows.shape[-1], columns.shape[-1])
    for start in range(0, query.shape[2], CHUNK):
        part = slice(start, start + CHUNK)
        bias = buffer[:, :, : query[:, :, part].shape[2]]
        torch.add(rows[:, :, part, :, None], columns[:, :, part, None, :], out=bias)
        attended[:, :, part] = F.scaled_dot_product_attention(query[:, :, part], key, value, attn_mask=bias.flatten(3))
    return attended


def use_fused_attention(encoder: ImageEncoderViT) -> None:
    """Put FusedAttention in the place of each block's attention; its parameters stay the same tensors."""
    for block in encoder.blocks:
        block.attn.__class__ = FusedAttention
