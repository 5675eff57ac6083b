"""Weights and states of a sub-block: one description, from which shapes, parameters, bytes and FLOP follow.

Names and orders of rows are transformers', for mixers those of `NemotronHMamba2Mixer` and of `Qwen3NextGatedDeltaNet` and
`Qwen3_5GatedDeltaNet`. A sequence keeps a state of its past in either:
Mamba2 (arXiv 2405.21060): h = a h + (dt x) B^T and y = h C, for heads of x [head_dim] and B, C [state].
Gated delta net (arXiv 2412.06464): h = a h, then h = h + b (v - h k) k^T and y = h q, for heads of v [head_dim] and k, q
[state]. Before either, a causal convolution over x, B, C (v, k, q) needs the inputs of its earlier taps.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import assert_never

from puzzledsl.alternatives.shape import Mixer, Shape
from puzzledsl.base.frozen import Frozen, Record


class Weight(Record):
    """One stored tensor. Tensor parallelism divides dimension `split` (None: none) into multiples of `unit`, such as a head."""

    shape: tuple[int, ...]
    split: int | None = None
    unit: int = 1
    of_expert: bool = False

    def count(self, gpus: int) -> int:
        """Return the number of entries on the most loaded of `gpus`."""
        if self.split is None:
            return math.prod(self.shape)
        dim = self.shape[self.split]
        return math.prod(self.shape) // dim * split(dim // self.unit, gpus) * self.unit


Weights = Mapping[str, Weight]
Shapes = dict[str, tuple[int, ...]]  # weight name -> shape


class Stored(Record):
    """Storage type of a quantised sub-block's matrices on one GPU, and the number of their scales.

    `scales` of the matrices that every token uses, `expert_scales` of the experts; `plain` counts the numbers of routers,
    which stay unquantised.
    """

    dtype: str
    scales: int
    expert_scales: int = 0
    plain: int = 0


class Size(Record):
    """Parameters of a sub-block, or of the part that no layer changes, on one of `t` GPUs.

    `matrices` are stored in the hardware's weight dtype, `vectors` (norms, biases) unquantised. `active` counts the matrix
    parameters that one token is multiplied with. Of `matrices`, `experts` belong to experts; of `active`, `chosen` belong to
    the experts that the token chooses. `idle` counts all parameters of the experts that it leaves out.
    """

    matrices: int
    vectors: int
    active: int
    experts: int = 0
    chosen: int = 0
    idle: int = 0
    stored: Stored | None = None  # None: in the hardware's weight dtype

    @property
    def params(self) -> int:
        """The number of all parameters."""
        return self.matrices + self.vectors

    @property
    def used(self) -> int:
        """The parameters that one token uses: all but those of the experts that it leaves out."""
        return self.params - self.idle


def size_of_weights(
    counted: Iterable[tuple[Weight, int]],
    norms: int,
    routing: tuple[int, int],
    gpus: int,
    expert_parallel: int = 1,
) -> Size:
    """Return the size of a sub-block on the most loaded GPU; 0 without weights. `norms`: the parameters of its norms.

    `counted`: each weight and how often it occurs. `routing`: the number of experts, and those of one token. Experts are spread
    over `expert_parallel` groups of GPUs and split by channels within a group; a GPU's experts get their share of tokens.
    """
    experts, top_k = routing
    here = split(experts, expert_parallel)
    counts = Counter[tuple[bool, bool]]()
    for weight, number in counted:
        held_by = gpus // expert_parallel if weight.of_expert else gpus
        counts[len(weight.shape) == 1, weight.of_expert] += weight.count(held_by) * number
    if not counts:
        return Size(0, 0, 0)
    matrices, vectors = counts[False, False], counts[True, False]
    expert_matrices, expert_vectors = (counts[vector, True] * here // experts for vector in (False, True))
    chosen = split(expert_matrices * top_k, experts)
    chosen_vectors = split(expert_vectors * top_k, experts)
    return Size(
        matrices=matrices + expert_matrices,
        vectors=vectors + expert_vectors + norms,
        active=matrices + chosen,
        experts=expert_matrices,
        chosen=chosen,
        idle=expert_matrices - chosen + expert_vectors - chosen_vectors,
    )


def split(count: int, gpus: int) -> int:
    """Return the number of heads, channels or rows on the most loaded of `gpus`."""
    return -(-count // gpus)


def layer_weights(own: Shape) -> Weights:
    """Return the weights of a layer with one sub-block, by their names inside it; experts' are split by channels."""
    match own.ffn:
        case "dense":
            return ffn_weights(own, own.intermediate)
        case "moe":
            found = dict(_of_every_token(own))
            for expert in range(own.experts):
                found |= ffn_weights(own, own.expert_width, f"experts.{expert}.", of_expert=True)
            return found
        case "linear":
            return _matrix(own)
        case "none":
            return mixer_weights(own)
        case _:
            assert_never(own.ffn)


def counted_weights(own: Shape) -> Iterable[tuple[Weight, int]]:
    """Yield each weight of `layer_weights` with how often it occurs: an expert's weights as often as there are experts."""
    if own.ffn != "moe":
        yield from ((weight, 1) for weight in layer_weights(own).values())
        return
    yield from ((weight, 1) for weight in _of_every_token(own).values())
    each = ffn_weights(own, own.expert_width, of_expert=True).values()
    yield from ((weight, own.experts) for weight in each)


def attention_weights(shape: Shape) -> Weights:
    """Return the weights of attention.

    Shapes: q [heads * head_dim, hidden], k, v [kv_heads * head_dim, hidden], o [hidden, heads * head_dim]; q has twice
    the rows with an output gate. Heads are split over the GPUs; fewer key/value heads than GPUs are replicated.
    """
    dim = shape.head_dim
    queries, keys = shape.heads * dim, shape.kv_heads * dim
    made = 2 * queries if shape.output_gate else queries
    found = {
        "q_proj.weight": Weight((made, shape.hidden), 0, made // shape.heads),
        "k_proj.weight": Weight((keys, shape.hidden), 0, dim),
        "v_proj.weight": Weight((keys, shape.hidden), 0, dim),
        "o_proj.weight": Weight((shape.hidden, queries), 1, dim),
    }
    if shape.attention_bias:
        found |= {
            "q_proj.bias": Weight((made,), 0, made // shape.heads),
            "k_proj.bias": Weight((keys,), 0, dim),
            "v_proj.bias": Weight((keys,), 0, dim),
        }
    if shape.output_bias:
        found["o_proj.bias"] = Weight((shape.hidden,))
    if shape.qk_norm_whole:
        found |= {"q_norm.weight": Weight((queries,), 0, dim), "k_norm.weight": Weight((keys,), 0, dim)}
    elif shape.qk_norm:
        found |= {"q_norm.weight": Weight((dim,)), "k_norm.weight": Weight((dim,))}
    if shape.sinks:
        found["sinks"] = Weight((shape.heads,), 0)
    return found


def ffn_weights(shape: Shape, width: int, prefix: str = "", *, of_expert: bool = False) -> Weights:
    """Return the weights of an FFN, split by channels: gate (if it has one) and up [width, hidden], down [hidden, width]."""
    into = ("gate_proj", "up_proj") if shape.gated else ("up_proj",)
    found = {f"{name}.weight": Weight((width, shape.hidden), 0, of_expert=of_expert) for name in into}
    found["down_proj.weight"] = Weight((shape.hidden, width), 1, of_expert=of_expert)
    if shape.mlp_bias:
        found |= {f"{name}.bias": Weight((width,), 0, of_expert=of_expert) for name in into}
        found["down_proj.bias"] = Weight((shape.hidden,), of_expert=of_expert)
    return {prefix + name: weight for name, weight in found.items()}


def _of_every_token(shape: Shape) -> Weights:
    """Return the weights of a mixture that every token uses: the router, whole on every GPU, and shared experts."""
    found = {"gate.weight": Weight((shape.experts, shape.hidden))}
    if shape.router_bias:
        found["gate.bias"] = Weight((shape.experts,))
    if shape.shared_width:
        found |= ffn_weights(shape, shape.shared_width, "shared_expert.")
    if shape.shared_gate:
        found["shared_expert_gate.weight"] = Weight((1, shape.hidden))
    return found


def mixer_weights(shape: Shape) -> Weights:
    """Return the weights of a layer's mixer; nothing where the layer has none."""
    match shape.mixer:
        case "attention":
            return attention_weights(shape)
        case "mamba2":
            return _mamba2(shape)
        case "delta_net":
            return _delta_net(shape)
        case "linear":
            return _matrix(shape)
        case "none":
            return {}
        case _:
            assert_never(shape.mixer)


def _matrix(shape: Shape) -> Weights:
    """Return one matrix in place of a sub-block, split by rows."""
    return {"linear.weight": Weight((shape.hidden, shape.hidden), 0)}


def _mamba2(shape: Shape) -> Weights:
    """Return the weights of Mamba2, split by heads, whose groups share B and C: gate, values, B, C, and a step a head."""
    hidden, state = shape.hidden, shape.state
    assert state is not None
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


def _delta_net(shape: Shape) -> Weights:
    """Return the weights of a gated delta net, split by key heads with the value heads that belong to each.

    With two input maps, in_proj_qkvz makes queries, keys, values and the output's gate, in_proj_ba a writing strength and a
    decay a head, both key head by key head; with four, in_proj_qkv, z, b and a make them one after the other. The convolution
    runs over queries, keys and values. The norm has one weight of a head's channels.
    """
    state, hidden = shape.state, shape.hidden
    assert state is not None
    keys, values = state.groups * state.state, state.heads * state.head_dim
    group, mixed = state.heads // state.groups, 2 * keys + values
    rows = {"qkvz": mixed + values, "ba": 2 * state.heads}
    if shape.delta_maps == 4:
        rows = {"qkv": mixed, "z": values, "b": state.heads, "a": state.heads}
    return {
        **{f"in_proj_{name}.weight": Weight((n, hidden), 0, n // state.groups) for name, n in rows.items()},
        "conv1d.weight": Weight((mixed, 1, state.conv), 0, mixed // state.groups),
        "dt_bias": Weight((state.heads,), 0, group),
        "A_log": Weight((state.heads,), 0, group),
        "norm.weight": Weight((state.head_dim,)),
        "out_proj.weight": Weight((hidden, values), 1, group * state.head_dim),
    }


FLOP_OF_A_CELL: dict[Mixer, int] = {"mamba2": 5, "delta_net": 7}
"""FLOP of one token for each number of a state: decay, update and output; a delta net reads what it corrects, too."""


class StateSize(Record):
    """Numbers that a sequence keeps in one layer: inputs of the convolution, and the recurrent state."""

    conv: int
    scan: int


def state_size(own: Shape, gpus: int = 1) -> StateSize:
    """Return the size of a layer's state on the most loaded of `gpus`, which split its heads and groups; 0 without a state."""
    if (state := own.state) is None or own.mixer not in FLOP_OF_A_CELL:
        return StateSize(0, 0)
    heads, groups = split(state.heads, gpus), split(state.groups, gpus)
    channels = heads * state.head_dim + 2 * groups * state.state
    return StateSize(conv=(state.conv - 1) * channels, scan=heads * state.head_dim * state.state)


def scan_flop(own: Shape, gpus: int = 1) -> int:
    """Return the FLOP of one token's recurrence in a layer on the most loaded of `gpus`; a chunked prefill is counted alike."""
    return FLOP_OF_A_CELL.get(own.mixer, 0) * state_size(own, gpus).scan


PARTIAL = "partial"
"""Name of a rotary embedding that turns a part of each head, among the scalings of `ropes`."""


class Computation(Frozen):
    """A parent's computation beyond its shape, from its config.json; by default as in all runtimes. See `computation_of`."""

    ropes: tuple[str, ...] = ("default",)
    """Scalings of rotary embeddings in its layers, in transformers' words."""
    activation: str = ""  # of its FFNs; empty: the family's usual one
    weights_of_all: bool = False
    """True if a router's weights are shares of all experts: those of the chosen are below 1."""


USUAL = Computation()
