"""Attention with fewer key/value heads: the parent's heads merged, and the output projection refitted to what they bring."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.models.alternatives.realisation import ParentLayer, Site, State, cannot_initialise
from puzzledsl.models.errors import HeadsDontDivide
from puzzledsl.models.families.build import new_attention
from puzzledsl.models.families.slots import load_weights_into
from puzzledsl.models.least_squares.grams import Gram, refit
from puzzledsl.models.least_squares.heads import Heads, mean_pool, merge_heads, turning_of


def build(alternative: GqaAttention, site: Site) -> nn.Module:
    """Build the family's attention with fewer heads. Raises DiagnosticError (HeadsDontDivide)."""
    kv_heads, heads = alternative.kv_heads, alternative.query_heads(site.shape)
    if kv_heads < 1 or heads % kv_heads:
        raise DiagnosticError(HeadsDontDivide(None, kv_heads=kv_heads, heads=heads))
    return new_attention(
        site.config,
        site.layer_idx,
        kv_heads,
        heads=alternative.heads,
        window=alternative.window,
        sinks=alternative.sinks,
        dtype=site.dtype,
        device=site.device,
    )


def initialise(alternative: GqaAttention, parent: ParentLayer) -> State:
    """Merge heads by least squares, or by their mean; then refit the output where queries read something new."""
    kv_heads, window = alternative.kv_heads, alternative.window
    shape, statistics = parent.shape, parent.statistics
    if kv_heads < 1 or shape.heads % kv_heads:
        raise cannot_initialise(alternative, f"{kv_heads} does not divide its {shape.heads} query heads")
    own = parent.weights("attention")
    heads = Heads.of(own, shape, turning_of(parent.sub_block("attention").config, shape))
    if parent.init.gqa == "mean_pool":
        return mean_pool(heads, kv_heads).state_dict(own)
    state = merge_heads(heads, kv_heads, statistics.attention.augmented()).state_dict(own)
    longest = max((entering.shape[1] for entering, _ in statistics.calls), default=0)
    within = shape.window is not None and window is not None and window - alternative.sinks >= shape.window
    if kv_heads % shape.kv_heads == 0 and (window is None or longest <= window or within):
        return state  # every query still reads what it read
    return _refit_output(alternative, state, parent)


def _refit_output(alternative: GqaAttention, state: State, parent: ParentLayer) -> State:
    """W_o by least squares on what the new heads themselves bring back, pulled towards the merged W_o."""
    if not parent.statistics.calls:
        return state
    held, weight = parent.sub_block("attention"), state["o_proj.weight"]
    site = Site(held.config, parent.shape, held.layer_idx, weight.dtype, weight.device)
    module: Any = build(alternative, site)
    load_weights_into(module, state)
    module.o_proj = nn.Identity()
    gram = Gram.zeros(weight.shape[1], weight.shape[0], weight.device)
    bias = state.get("o_proj.bias")
    with torch.no_grad():
        for _, trace in parent.statistics.calls:
            activations, _ = module(hidden_states=trace.attention_input, **trace.attention_kwargs)
            output = trace.attention_output
            gram.add(activations, output if bias is None else output - bias)
    return state | {"o_proj.weight": refit(gram, weight)}
