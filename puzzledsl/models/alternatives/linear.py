"""One matrix in place of a sub-block: the least-squares map from its inputs to its outputs, or a product of its own maps."""

from __future__ import annotations

from typing import assert_never, cast

from torch import Tensor

from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.models.alternatives.realisation import ParentLayer, State, like
from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.least_squares.grams import TOWARDS_ZERO, Gram, solve_ridge
from puzzledsl.models.least_squares.heads import Heads


def initialise(alternative: LinearAttention | LinearFfn, parent: ParentLayer) -> State:
    """Return the matrix that `init { linear = … }` names."""
    is_attention = isinstance(alternative, LinearAttention)
    if parent.init.linear == "least_squares":
        weight = _best(parent.statistics.attention if is_attention else parent.statistics.ffn)
    else:
        weight = _product_of_mixer(parent) if is_attention else _product_of_ffn(parent)
    return {"linear.weight": like(weight, next(parent.sub_block(alternative.sub_block).parameters()))}


def _best(gram: Gram) -> Tensor:
    """The matrix that maps a sub-block's inputs nearest to its outputs (ridge), as `nn.Linear` stores it."""
    return solve_ridge(gram.xx, gram.xy, relative=gram.ridge(TOWARDS_ZERO)).T


def _product_of_mixer(parent: ParentLayer) -> Tensor:
    """The output map times the map that makes values, (H, H): a mixer in which a token sees only itself.

    In attention each value head is repeated for its queries. Convolution, gate and norm of other mixers are left out.
    """
    shape, own = parent.shape, parent.sub_block("attention")
    state = shape.state
    match shape.mixer:
        case "attention":
            heads = Heads.of(parent.weights("attention"), shape)
            values = heads.v.repeat_interleave(shape.heads // shape.kv_heads, 0)[..., :-1]
            return heads.o.flatten(0, 1).T @ values.flatten(0, 1)
        case "mamba2":
            assert state is not None
            inner = state.heads * state.head_dim  # the rows before them make the gate
            return cast(Tensor, own.out_proj.weight @ own.in_proj.weight[inner : 2 * inner])
        case "delta_net":
            assert state is not None
            if shape.delta_maps == 4:
                return cast(
                    Tensor, own.out_proj.weight @ own.in_proj_qkv.weight[2 * state.groups * state.state :]
                )
            keys, values_ = 2 * state.state, state.heads // state.groups * state.head_dim
            rows = own.in_proj_qkvz.weight.view(state.groups, -1, shape.hidden)[:, keys : keys + values_]
            return cast(Tensor, own.out_proj.weight @ rows.flatten(0, 1))
        case "linear" | "none":
            raise AssertionError("a matrix, or nothing, is not replaced by a matrix")
        case _:
            assert_never(shape.mixer)


def _product_of_ffn(parent: ParentLayer) -> Tensor:
    """W_down W_up (H, H); of a mixture, the mean of its experts' and the sum of its shared ones'."""
    weights = weights_of(parent.sub_block("ffn"))

    def product(start: str) -> Tensor:
        return weights[f"{start}down_proj.weight"] @ weights[f"{start}up_proj.weight"]

    if parent.shape.ffn == "dense":
        return product("")
    number = parent.shape.experts
    total = sum((product(f"experts.{expert}.") for expert in range(1, number)), product("experts.0."))
    return total / number + (product("shared_expert.") if parent.shape.shared_width else 0)
