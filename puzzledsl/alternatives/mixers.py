"""Weights of mixers that are no attention: Mamba2 (arXiv 2405.21060) and the gated delta net (arXiv 2412.06464).

Names and orders of rows are transformers', in `NemotronHMamba2Mixer` and `Qwen3NextGatedDeltaNet`.
"""

from __future__ import annotations

from typing import assert_never

from puzzledsl.alternatives.shape import Shape, StateShape
from puzzledsl.alternatives.weights import Weight, Weights


def mixer_weights(shape: Shape) -> Weights:
    """Return the weights of a layer's mixer that is no attention; nothing where the layer has none."""
    match shape.mixer:
        case "mamba2":
            return _mamba2(shape.hidden, _state(shape))
        case "delta_net":
            return _delta_net(shape.hidden, _state(shape))
        case "linear":
            return matrix_weights(shape)
        case "none":
            return {}
        case "attention":
            raise ValueError("attention has no state")
        case _:
            assert_never(shape.mixer)


def matrix_weights(shape: Shape) -> Weights:
    """Return one matrix in place of a sub-block, split by rows."""
    return {"linear.weight": Weight((shape.hidden, shape.hidden), 0)}


def _state(shape: Shape) -> StateShape:
    if shape.state is None:
        raise ValueError(f"a {shape.mixer} needs the sizes of its state")
    return shape.state


def _mamba2(hidden: int, state: StateShape) -> Weights:
    """Return the weights of Mamba2, split by heads.

    in_proj makes gate, values, B, C and a time step a head; the convolution runs over values, B and C. Rows of a group
    stay together: its heads share B and C.
    """
    inner, mixed = state.heads * state.head_dim, state.heads * state.head_dim + 2 * state.groups * state.state
    group = state.heads // state.groups
    projected = inner + mixed + state.heads
    return {
        "in_proj.weight": Weight((projected, hidden), 0, projected // state.groups),
        "conv1d.weight": Weight((mixed, 1, state.conv), 0, mixed // state.groups),
        "conv1d.bias": Weight((mixed,), 0, mixed // state.groups),
        **{name: Weight((state.heads,), 0, group) for name in ("dt_bias", "A_log", "D")},
        "norm.weight": Weight((inner,), 0, group * state.head_dim),
        "out_proj.weight": Weight((hidden, inner), 1, group * state.head_dim),
    }


def _delta_net(hidden: int, state: StateShape) -> Weights:
    """Return the weights of a gated delta net, split by key heads with the value heads that belong to each.

    in_proj_qkvz makes queries, keys, values and the output's gate, in_proj_ba a writing strength and a decay a head;
    the convolution runs over queries, keys and values. The norm has one weight of a head's channels.
    """
    keys, values = state.groups * state.state, state.heads * state.head_dim
    group = state.heads // state.groups
    mixed = 2 * keys + values
    return {
        "in_proj_qkvz.weight": Weight((mixed + values, hidden), 0, (mixed + values) // state.groups),
        "in_proj_ba.weight": Weight((2 * state.heads, hidden), 0, 2 * group),
        "conv1d.weight": Weight((mixed, 1, state.conv), 0, mixed // state.groups),
        "dt_bias": Weight((state.heads,), 0, group),
        "A_log": Weight((state.heads,), 0, group),
        "norm.weight": Weight((state.head_dim,)),
        "out_proj.weight": Weight((hidden, values), 1, group * state.head_dim),
    }
