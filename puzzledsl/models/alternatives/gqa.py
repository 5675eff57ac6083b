"""Attention with fewer heads: key/value heads merged, query heads left out, and the output projection refitted to the rest."""

from typing import Any

import torch
from torch import nn

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.models.alternatives.realisation import ParentLayer, State, cannot_initialise, like
from puzzledsl.models.families.build import Site, new_sub_block
from puzzledsl.models.families.slots import load_weights_into
from puzzledsl.models.least_squares.grams import Gram, refit
from puzzledsl.models.least_squares.heads import (
    Heads,
    kept_heads,
    loudest_heads,
    mean_pool,
    merge_heads,
    refit_rows,
    rows_of,
    turning_of,
)


def initialise(alternative: GqaAttention, parent: ParentLayer) -> State:
    """Return weights with merged key/value heads, fewer query heads if asked for, and (not for `mean_pool`) a refitted output."""
    kv_heads, shape = alternative.kv_heads, parent.shape
    if kv_heads < 1 or shape.heads % kv_heads:
        raise cannot_initialise(alternative, f"{kv_heads} does not divide its {shape.heads} query heads")
    own = parent.weights("attention")
    heads = Heads.of(own, shape, turning_of(parent.sub_block("attention").config, shape))
    pooled = parent.init.gqa == "mean_pool"
    gram = parent.statistics.attention.augmented()
    merged = mean_pool(heads, kv_heads) if pooled else merge_heads(heads, kv_heads, gram)
    state = merged.state_dict(own)
    if alternative.heads is not None:
        return _with_fewer_queries(alternative, state, parent, pooled=pooled)
    if pooled or not parent.statistics.calls or _reads_what_it_read(alternative, parent):
        return state
    weight = state["o_proj.weight"]
    return state | {"o_proj.weight": refit(_outputs(alternative, state, parent), weight)}


def _reads_what_it_read(alternative: GqaAttention, parent: ParentLayer) -> bool:
    """Return True if on the calibration tokens every query reads the same key/value head and tokens as in the parent."""
    window, shape = alternative.window, parent.shape
    longest = max((entering.shape[1] for entering, _ in parent.statistics.calls), default=0)
    within = shape.window is not None and window is not None and window - alternative.sinks >= shape.window
    return alternative.kv_heads % shape.kv_heads == 0 and (window is None or longest <= window or within)


def _outputs(alternative: GqaAttention, state: State, parent: ParentLayer) -> Gram:
    """Return the Gram of the output map's inputs under `state`, with all query heads, and the parent's outputs less the bias."""
    held, weight = parent.sub_block("attention"), state["o_proj.weight"]
    base = parent.shape.base or parent.shape
    heads = None if parent.shape.heads == base.heads else parent.shape.heads
    whole = alternative.model_copy(update={"heads": heads})
    site = Site(held.config, base, held.layer_idx, weight.dtype, weight.device)
    module: Any = new_sub_block(site, whole)
    load_weights_into(module, state)
    module.o_proj = nn.Identity()
    gram = Gram.zeros(weight.shape[1], weight.shape[0], weight.device)
    bias = state.get("o_proj.bias")
    with torch.no_grad():
        for _, trace in parent.statistics.calls:
            activations, _ = module(hidden_states=trace.attention_input, **trace.attention_kwargs)
            output = trace.attention_output
            gram.add(activations, output if bias is None else output - bias)
    return gram


def _with_fewer_queries(
    alternative: GqaAttention, state: State, parent: ParentLayer, *, pooled: bool
) -> State:
    """Return `state` with fewer query heads, as many a key/value head: the most useful, refitted, or (`pooled`) the loudest."""
    if not parent.statistics.calls:
        raise cannot_initialise(alternative, "there are no calibration tokens to choose query heads by")
    shape, gram, weight = parent.shape, _outputs(alternative, state, parent), state["o_proj.weight"].T
    choose = loudest_heads if pooled else kept_heads
    kept = choose(gram.xx, weight, shape.heads, alternative.kv_heads, (alternative.heads or shape.heads))
    rows = rows_of(kept, shape.head_dim)
    output = weight[rows] if pooled else refit_rows(gram, weight, rows)
    own = _of_heads(state, kept, shape.heads, whole=shape.qk_norm_whole)
    if shape.qk_norm_whole:
        own["q_norm.weight"] = own["q_norm.weight"] * _louder(kept, parent)
    return own | {"o_proj.weight": like(output.T, state["o_proj.weight"])}


def _of_heads(state: State, kept: list[int], heads: int, *, whole: bool) -> State:
    """Return the weights with the query heads `kept`: rows of queries with their gates, norms over all heads, sinks."""
    per_head = ("q_proj.weight", "q_proj.bias", "sinks")
    found = dict(state)
    for name, weight in state.items():
        if name in per_head or (name == "q_norm.weight" and whole):
            found[name] = weight.view(heads, -1, *weight.shape[1:])[kept].flatten(0, 1).contiguous()
    return found


def _louder(kept: list[int], parent: ParentLayer) -> float:
    """Return the root of the mean square of the kept queries, before their common norm, relative to that of all."""
    heads, gram = Heads.of(parent.weights("attention"), parent.shape), parent.statistics.attention.augmented()
    square = ((heads.q @ gram) * heads.q).sum(-1).mean(-1)
    return float((square[kept].mean() / square.mean().clamp_min(1e-300)).sqrt())
