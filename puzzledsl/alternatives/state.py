"""State of a Mamba2 layer or a gated delta net: what a sequence keeps of its past, and the FLOP of one step.

Mamba2 (arXiv 2405.21060): h = a h + (dt x) B^T and y = h C, for heads of x [head_dim] and B, C [state].
Gated delta net (arXiv 2412.06464): h = a h, then h = h + b (v - h k) k^T and y = h q, for heads of v [head_dim] and k, q
[state]. Before either, a causal convolution over x, B, C (v, k, q) needs the inputs of its earlier taps.
"""

from __future__ import annotations

from puzzledsl.alternatives.shape import Mixer, Shape
from puzzledsl.alternatives.weights import split
from puzzledsl.base.frozen import Frozen, record

FLOP_OF_A_CELL: dict[Mixer, int] = {"mamba2": 5, "delta_net": 7}
"""FLOP of one token for each number of a state: decay, update and output; a delta net reads what it corrects, too."""


@record
class StateSize:
    """Numbers that a sequence keeps in one layer: inputs of the convolution, and the recurrent state."""

    conv: int
    scan: int


NO_STATE = StateSize(0, 0)


def state_size(own: Shape, gpus: int = 1) -> StateSize:
    """Return a layer's size on the most loaded of `gpus`: heads and groups are split, fewer groups than GPUs replicated."""
    if (state := own.state) is None or own.mixer not in FLOP_OF_A_CELL:
        return NO_STATE
    heads, groups = split(state.heads, gpus), split(state.groups, gpus)
    channels = heads * state.head_dim + 2 * groups * state.state
    return StateSize(conv=(state.conv - 1) * channels, scan=heads * state.head_dim * state.state)


def scan_flop(own: Shape, gpus: int = 1) -> int:
    """Return the FLOP of one token's recurrence in a layer on the most loaded of `gpus`; a chunked prefill is counted alike."""
    return FLOP_OF_A_CELL.get(own.mixer, 0) * state_size(own, gpus).scan


PARTIAL = "partial"
"""Name of a rotary embedding that turns a part of each head, among the scalings of `ropes`."""


class Computation(Frozen):
    """The defaults are what every runtime computes. `families.computation` reads it from config.json."""

    ropes: tuple[str, ...] = (
        "default",
    )  # scalings of rotary embeddings in its layers, in transformers' words
    activation: str = ""  # of its FFNs; empty: the family's usual one
    weights_of_all: bool = (
        False  # a router's weights are shares of all experts: those of the chosen are below 1
    )


USUAL = Computation()
