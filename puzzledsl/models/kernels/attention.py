"""Transformers' SDPA attention, kept away from PyTorch's slowest kernel on CUDA.

With grouped heads in float32, no fast kernel of `F.scaled_dot_product_attention` applies, and the one that is left holds a score
for every pair of positions. With its key/value heads repeated, the memory-efficient kernel does the same.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

FAST_SDPA = "puzzledsl_sdpa"
"""`attn_implementation` of the models that we load. Transformers' own names keep their meaning."""


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Return what transformers' `sdpa` returns, with key/value heads repeated where grouped ones are slow."""
    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1 and attention_mask is None and key.device.type == "cuda" and _is_float32(key):
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        module = SimpleNamespace(is_causal=getattr(module, "is_causal", True))  # one without groups
    found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return found


def _is_float32(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and not torch.is_autocast_enabled(tensor.device.type)


AttentionInterface.register(FAST_SDPA, attention)
AttentionMaskInterface.register(FAST_SDPA, sdpa_mask)
