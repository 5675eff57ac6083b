"""Parent layer + calibration statistics -> the weights an alternative starts with.

Names are those inside the sub-block: `q_proj.weight`, `down_proj.weight`, `linear.weight`. Weights have the parent's dtype.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, assert_never, cast

import torch
from torch import Tensor, nn

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.alternatives import (
    Alternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    MoeFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
    SubBlock,
    name_of,
)
from puzzledsl.ir.nodes import Initialisers, Shape
from puzzledsl.models.families import access
from puzzledsl.models.families.build import new_attention
from puzzledsl.pieces.initialise.channels import contribution_order, elimination_order, refit_down
from puzzledsl.pieces.initialise.errors import CannotInitialise
from puzzledsl.pieces.initialise.grams import TOWARDS_ZERO, Gram, refit, solve_ridge
from puzzledsl.pieces.initialise.heads import Heads, mean_pool, merge_heads
from puzzledsl.pieces.initialise.statistics import Call, LayerStatistics

State = dict[str, Tensor]


def initialise(
    parent_layer: nn.Module,
    sub_block: SubBlock,
    alternative: Alternative,
    statistics: LayerStatistics,
    init: Initialisers,
    shape: Shape,
) -> State:
    """The initial weights of one alternative; empty for a no-op, the parent's own for `parent`.

    Work that several alternatives share (the order in which FFN channels go) is kept in `statistics`.
    Raises DiagnosticError (CannotInitialise).
    """
    attention, ffn = access.attention(parent_layer), access.ffn(parent_layer)
    match alternative:
        case ParentAttention() | ParentFfn():
            module = access.sub_block_of(parent_layer, sub_block)
            return {name: weight.detach().clone() for name, weight in module.state_dict().items()}
        case NoOpAttention() | NoOpFfn():
            return {}
        case LinearAttention():
            weight = (
                _product_of_heads(attention, shape)
                if init.linear == "product"
                else _best(statistics.attention)
            )
            return {"linear.weight": _like(weight, cast(Any, attention).o_proj.weight)}
        case LinearFfn():
            held: Any = ffn
            weight = (
                held.down_proj.weight @ held.up_proj.weight
                if init.linear == "product"
                else _best(statistics.ffn)
            )
            return {"linear.weight": _like(weight, held.down_proj.weight)}
        case MlpFfn(width=width):
            return _narrow_ffn(ffn, width, statistics, init, shape)
        case GqaAttention():
            return _fewer_heads(attention, alternative, statistics, init, shape)
        case MoeFfn():
            raise _cannot(alternative, "mixtures of experts are not made yet")
        case _:
            assert_never(alternative)


def initialise_layer(
    parent_layer: nn.Module,
    alternatives: Iterable[tuple[SubBlock, Alternative]],
    statistics: LayerStatistics,
    init: Initialisers,
    shape: Shape,
) -> dict[tuple[SubBlock, str], State]:
    """Initial weights of several alternatives of one layer, by sub-block and canonical name. See `initialise`."""
    return {
        (sub_block, name_of(alternative)): initialise(
            parent_layer, sub_block, alternative, statistics, init, shape
        )
        for sub_block, alternative in alternatives
    }


def _cannot(alternative: Alternative, reason: str) -> DiagnosticError:
    return DiagnosticError(CannotInitialise(None, alternative=name_of(alternative), reason=reason))


def _like(weight: Tensor, model: Tensor) -> Tensor:
    return weight.detach().to(model).contiguous()


def _best(gram: Gram) -> Tensor:
    """The matrix that maps a sub-block's inputs nearest to its outputs (ridge), as `nn.Linear` stores it."""
    return solve_ridge(gram.xx, gram.xy, relative=gram.ridge(TOWARDS_ZERO)).T


def _product_of_heads(attention: nn.Module, shape: Shape) -> Tensor:
    """W_o W_v with each value head repeated for its queries: attention in which a token sees only itself (H, H)."""
    heads = Heads.of(attention, shape)
    values = heads.v.repeat_interleave(shape.heads // shape.kv_heads, 0)[..., :-1]
    return heads.o.flatten(0, 1).T @ values.flatten(0, 1)


# ---------------------------------------------------------------- FFN


def _narrow_ffn(
    ffn: nn.Module,
    width: int,
    statistics: LayerStatistics,
    init: Initialisers,
    shape: Shape,
) -> State:
    if not 1 <= width <= shape.intermediate:
        raise _cannot(MlpFfn(width=width), f"the parent's FFN has {shape.intermediate} channels")
    own = {name: weight.detach().clone() for name, weight in ffn.state_dict().items()}
    if width == shape.intermediate:
        return own
    kept = kept_channels(ffn, width, statistics, init)
    for name in own:
        if name.startswith(("gate_proj.", "up_proj.")):
            own[name] = own[name][kept].contiguous()
    down = own["down_proj.weight"]
    if init.mlp == "least_squares":
        own["down_proj.weight"] = _like(refit_down(statistics.activations, down.T, kept).T, down)
    else:
        own["down_proj.weight"] = down[:, kept].contiguous()
    return own


def kept_channels(ffn: nn.Module, width: int, statistics: LayerStatistics, init: Initialisers) -> Tensor:
    """The parent's channels that an FFN of `width` keeps, ascending (width,), int64."""
    down = cast(Tensor, cast(Any, ffn).down_proj.weight).detach().T
    if init.mlp == "channel_contribution":
        order = contribution_order(statistics.activation_abs, down)
    else:
        if statistics.channel_order is None:
            statistics.channel_order = elimination_order(statistics.activations.xx, down)
        order = statistics.channel_order
    return order[len(order) - width :].sort().values


# ---------------------------------------------------------------- attention


def _fewer_heads(
    attention: nn.Module,
    alternative: GqaAttention,
    statistics: LayerStatistics,
    init: Initialisers,
    shape: Shape,
) -> State:
    kv_heads, window = alternative.kv_heads, alternative.window
    if kv_heads < 1 or shape.heads % kv_heads:
        raise _cannot(alternative, f"{kv_heads} does not divide its {shape.heads} query heads")
    heads = Heads.of(attention, shape)
    if init.gqa == "mean_pool":
        return mean_pool(heads, kv_heads).state_dict(attention)
    merged = merge_heads(heads, kv_heads, statistics.attention.augmented(), qk_norm=shape.qk_norm)
    state = merged.state_dict(attention)
    longest = max((call.hidden_states.shape[1] for call in statistics.calls), default=0)
    if kv_heads % shape.kv_heads == 0 and (window is None or longest <= window):
        return state  # every query still reads the head it read
    return _refit_output(attention, alternative, state, statistics.calls)


def _refit_output(attention: nn.Module, alternative: GqaAttention, state: State, calls: list[Call]) -> State:
    """W_o by least squares on what the new heads themselves bring back, pulled towards the merged W_o."""
    if not calls:
        return state
    held: Any = attention
    weight = state["o_proj.weight"]
    module: Any = new_attention(
        held.config,
        held.layer_idx,
        alternative.kv_heads,
        window=alternative.window,
        sinks=alternative.sinks,
        dtype=weight.dtype,
        device=weight.device,
    )
    module.load_state_dict(state)
    module.o_proj = nn.Identity()
    gram = Gram.zeros(weight.shape[1], weight.shape[0], weight.device)
    bias = state.get("o_proj.bias")
    with torch.no_grad():
        for call in calls:
            activations, _ = module(hidden_states=call.hidden_states, **call.kwargs)
            gram.add(activations, call.output if bias is None else call.output - bias)
    return state | {"o_proj.weight": refit(gram, weight)}
