"""Mixtures of experts in a GGUF file of architecture `step35`.

All its mixtures have the same sizes, so smaller ones get experts and channels of zeros. Such an expert has another one's
row of the router, which keeps the softmax in range, and a bias below every probability, so that no token chooses it. The
weights of the chosen ones are scaled to a sum of 1, which removes the others from the result; a parent whose router does not
scale them has mixtures of one size here. A shared expert, which is
always there, is zero.

Shapes: E experts, W channels of an expert, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.alternatives.shape import Shape
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.families.registry import FAMILIES
from puzzledsl.models.families.tensors import LazyTensor

SHARED = 32
"""Channels of the shared expert of zeros."""
NEVER = -1e30
"""Bias in the choice of experts that are not there."""


def is_mixture(ffn: Alternative, shape: Shape) -> bool:
    """Return True for a mixture of experts in a layer of this shape."""
    return isinstance(ffn, MoeFfn) or (isinstance(ffn, ParentFfn) and shape.ffn == "moe")


def add_mixtures(writer: Any, child: ChildFiles) -> None:
    """Write the sizes that all mixtures have."""
    import gguf

    sizes = _sizes(child)
    experts, width = (max(size[i] for size in sizes.values()) for i in (0, 2))
    normalised = bool(getattr(child.config, "norm_topk_prob", False))
    writer.add_expert_count(experts)
    writer.add_expert_used_count(next(iter(sizes.values()))[1])
    writer.add_expert_feed_forward_length(width)
    writer.add_expert_shared_feed_forward_length(SHARED)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
    writer.add_expert_weights_norm(normalised)
    writer.add_expert_weights_scale(1.0)


def mixture_tensors(child: ChildFiles) -> Iterator[tuple[str, LazyTensor]]:
    """Yield the tensors of all mixtures under llama.cpp's names."""
    sizes = _sizes(child)
    if not sizes:
        return
    experts, width = (max(size[i] for size in sizes.values()) for i in (0, 2))
    hidden, dtype = child.shape.hidden, child.dtype
    for layer, (count, _, _) in sizes.items():
        prefix, block = f"{FAMILIES[child.shape.family].layers}.{layer}.mlp.", f"blk.{layer}."
        yield f"{block}ffn_gate_inp.weight", _router(child.weights[f"{prefix}gate.weight"], experts)
        yield f"{block}exp_probs_b.bias", LazyTensor.of(_bias(count, experts))
        for kind, size in (("gate", (width, hidden)), ("up", (width, hidden)), ("down", (hidden, width))):
            parts = [child.weights[f"{prefix}experts.{e}.{kind}_proj.weight"] for e in range(count)]
            yield f"{block}ffn_{kind}_exps.weight", _stacked(parts, (experts, *size))
            shared = (hidden, SHARED) if kind == "down" else (SHARED, hidden)
            yield f"{block}ffn_{kind}_shexp.weight", _zeros(shared, dtype)


def _sizes(child: ChildFiles) -> dict[int, tuple[int, int, int]]:
    """Return experts, those of a token, and channels of an expert, of each layer with a mixture."""
    found = {}
    for layer, (own, (_, ffn)) in enumerate(zip(child.shape.each, child.layers, strict=True)):
        if is_mixture(ffn, own):
            width = ffn.width if isinstance(ffn, MoeFfn) else own.expert_width
            found[layer] = (*ffn.routing(own), width)
    return found


def _router(weight: LazyTensor, experts: int) -> LazyTensor:
    def read() -> Tensor:
        rows = weight.read()
        return torch.cat([rows, rows[:1].expand(experts - len(rows), -1)])

    return LazyTensor((experts, weight.shape[1]), weight.dtype, read)


def _bias(count: int, experts: int) -> Tensor:
    bias_E = torch.zeros(experts)
    bias_E[count:] = NEVER
    return bias_E


def _stacked(parts: list[LazyTensor], size: tuple[int, int, int]) -> LazyTensor:
    """Return experts in one tensor, filled up with zeros."""

    def read() -> Tensor:
        found = torch.zeros(size, dtype=parts[0].dtype)
        for expert, part in enumerate(parts):
            value = part.read()
            found[expert, : value.shape[0], : value.shape[1]] = value
        return found

    return LazyTensor(size, parts[0].dtype, read)


def _zeros(size: tuple[int, ...], dtype: torch.dtype) -> LazyTensor:
    return LazyTensor(size, dtype, lambda: torch.zeros(cast(Any, size), dtype=dtype))
