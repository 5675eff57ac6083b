"""Parts of a parent's computation that its sizes leave open and that few runtimes have."""

from __future__ import annotations

from puzzledsl.base.frozen import Frozen

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
