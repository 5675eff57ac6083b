"""Transformers' SDPA attention, kept away from PyTorch's slowest kernel on CUDA, and the head of a frozen model.

With grouped heads in float32, no fast kernel of `F.scaled_dot_product_attention` applies, and the one that is left holds a score
for every pair of positions. With its key/value heads repeated, the memory-efficient kernel does the same.

Head of a frozen model: a slice of hidden states is multiplied as one matrix.

`x[:, -1:]` keeps the strides of `x`, so `torch.matmul` cannot view it as a matrix. With a frozen weight it expands and copies the
weight for a batched product (`should_fold` in ATen/native/LinearAlgebra.cpp); with `requires_grad` it copies the slice. On a CPU
in bfloat16, a copy of a head of 896 x 151,936 takes a second for each sequence of the batch, and the product 30 ms.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
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


_FOLDS = "folds_slices"
"""Attribute of a head that has the hook."""


def fold_head(model: PreTrainedModel) -> None:
    """Let the model's head copy an input that is a slice. Logits stay those of a model with gradients, bit for bit."""
    head = cast(nn.Module | None, model.get_output_embeddings())  # type: ignore[no-untyped-call]
    if head is not None and not head.__dict__.get(_FOLDS):
        head.register_forward_pre_hook(folded)
        head.__dict__[_FOLDS] = True


def folded(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook: return the arguments with contiguous states [B, S, H]; None where they already fold."""
    states_BSH: Tensor = args[0]
    size, stride = states_BSH.shape, states_BSH.stride()
    if all(stride[i] == stride[i + 1] * size[i + 1] for i in range(len(size) - 2)):
        return None
    copied_BSH = states_BSH.new_empty(size)  # `contiguous()` returns a slice of one position as it is
    return (copied_BSH.copy_(states_BSH), *args[1:])
