"""Faster forms of transformers' modules, with the same results: SDPA attention, a frozen head, gated FFNs.

With grouped heads in float32, no fast kernel of `F.scaled_dot_product_attention` applies on CUDA, and the one that is left
holds a score for every pair of positions; with its key/value heads repeated, the memory-efficient kernel does the same.

A frozen head multiplies a slice of hidden states as one matrix. `x[:, -1:]` keeps the strides of `x`, so `torch.matmul` expands
and copies the weight for a batched product (`should_fold` in ATen/native/LinearAlgebra.cpp). On a CPU in bfloat16, a copy of a
head of 896 x 151,936 takes a second for each sequence of the batch, and the product 30 ms.

SiLU-gated FFNs have the activation and the product fused into the matrix products (`products.gated`), without gradients.

Shapes: B sequences, S positions, H hidden.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.activations import SiLUActivation
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from puzzledsl.models.kernels.products import PackedWeights, gated, linear

FAST_SDPA = "puzzledsl_sdpa"
"""`attn_implementation` of the models that we load. Transformers' own names keep their meaning."""


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Return what transformers' `sdpa` returns, with key/value heads repeated where grouped ones are slow."""
    groups = getattr(module, "num_key_value_groups", 1)
    on_gpu = key.device.type == "cuda" and key.dtype == torch.float32
    if groups > 1 and attention_mask is None and on_gpu and not torch.is_autocast_enabled("cuda"):
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        module = SimpleNamespace(is_causal=getattr(module, "is_causal", True))  # one without groups
    found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return found


AttentionInterface.register(FAST_SDPA, attention)
AttentionMaskInterface.register(FAST_SDPA, sdpa_mask)


def folded(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook of a head: return the arguments with contiguous states [B, S, H]; None where they already fold.

    So logits of a slice stay those of a model with gradients, bit for bit.
    """
    states_BSH: Tensor = args[0]
    size, stride = states_BSH.shape, states_BSH.stride()
    if all(stride[i] == stride[i + 1] * size[i + 1] for i in range(len(size) - 2)):
        return None
    copied_BSH = states_BSH.new_empty(size)  # `contiguous()` returns a slice of one position as it is
    return (copied_BSH.copy_(states_BSH), *args[1:])


_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@contextmanager
def fused_ffns(ffns: Iterable[nn.Module], packed: PackedWeights) -> Iterator[None]:
    """Inside the context, run the SiLU-gated ones of `ffns` fused, with the weights of `packed`. Other FFNs are unchanged."""
    changed = [ffn for ffn in ffns if _is_gated_by_silu(ffn)]
    for ffn in changed:
        held: Any = ffn
        held.forward = partial(_forward, ffn, packed)
    try:
        yield
    finally:
        for ffn in changed:
            del ffn.__dict__["forward"]  # uncovers the forward of the class


def _forward(ffn: Any, packed: PackedWeights, x: Tensor) -> Tensor:
    down: nn.Linear = ffn.down_proj
    return linear(gated(x, ffn.gate_proj, ffn.up_proj, packed), down.weight, down.bias, packed)


def _is_gated_by_silu(ffn: nn.Module) -> bool:
    children = dict(ffn.named_children())
    return (
        set(children) == {*_PROJECTIONS, "act_fn"}
        and all(type(children[name]) is nn.Linear for name in _PROJECTIONS)
        and isinstance(children["act_fn"], nn.SiLU | SiLUActivation)
    )
