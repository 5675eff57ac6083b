"""Causal attention on a CPU, without gradients, that does not multiply what the mask removes.

PyTorch's kernel takes as long with `is_causal` as without it. A block of queries sees the keys up to its own last: eight blocks
need 9/16 of the products, and take three quarters of the time.

Shapes: B sequences, N heads, S positions, D head_dim; Q queries of a block, K keys up to its last.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_BLOCK, BLOCKS = 64, 8
"""Queries of a block, at least, and blocks, at most."""


def is_causal_alone(query: Tensor, key: Tensor, value: Tensor, **others: Any) -> bool:
    """True for a call of `F.scaled_dot_product_attention` that `causal_attention` answers faster."""
    return (
        others.get("attn_mask") is None
        and bool(others.get("is_causal"))
        and not others.get("dropout_p")
        and not torch.is_grad_enabled()
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (query, key, value))
        and query.shape[-2] == key.shape[-2] > SMALLEST_BLOCK
    )


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None, enable_gqa: bool = False
) -> Tensor:
    """`F.scaled_dot_product_attention(…, is_causal=True)`, [B, N, S, D]."""
    positions = query.shape[-2]
    size = max(SMALLEST_BLOCK, -(-positions // BLOCKS))
    blocks = []
    for start in range(0, positions, size):
        end = min(start + size, positions)
        blocks.append(
            F.scaled_dot_product_attention(
                query[..., start:end, :],
                key[..., :end, :],
                value[..., :end, :],
                attn_mask=_mask(start, end),
                scale=scale,
                enable_gqa=enable_gqa,
            )
        )
    return torch.cat(blocks, -2)


@lru_cache(maxsize=64)
def _mask(start: int, end: int) -> Tensor:
    """What queries `start` to `end` may see of the keys up to `end`, to be added to their scores, [Q, K]."""
    return torch.full((end - start, end), float("-inf")).triu(start + 1)
