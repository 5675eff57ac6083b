"""The parent's own sub-block as a module."""

from __future__ import annotations

from torch import nn

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.models.alternatives.realisation import ParentLayer, Site, State
from puzzledsl.models.families.build import new_attention, new_ffn, new_mixture


def build(alternative: ParentAttention | ParentFfn, site: Site) -> nn.Module:
    """Build a sub-block of the parent's size."""
    shape = site.shape
    if isinstance(alternative, ParentFfn) and shape.ffn == "moe":
        sizes = shape.experts, shape.top_k, shape.expert_width
        return new_mixture(site.config, *sizes, dtype=site.dtype, device=site.device)
    if isinstance(alternative, ParentFfn):
        return new_ffn(site.config, shape.intermediate, dtype=site.dtype, device=site.device)
    heads = shape.kv_heads
    return new_attention(site.config, site.layer_idx, heads, dtype=site.dtype, device=site.device)


def initialise(alternative: ParentAttention | ParentFfn, parent: ParentLayer) -> State:
    """Copy the parent's weights."""
    return parent.weights(alternative.sub_block)
