"""A removed sub-block: it adds nothing to the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from puzzledsl.alternatives.alternative import Alternative, Attention, Ffn, Look, absent
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import NATIVE, Lowered, Support
from puzzledsl.alternatives.weights import Weights

FIRST: dict[str, Support] = {
    "vllm": Lowered(way="zero_attention", into="attention with one key/value head and an output of zeros"),
    "llama_cpp": Lowered(way="zero_linear", into="a matrix of zeros"),
}
"""Runtime -> the rewriting of a removed attention in the first layer that is left."""
AS_FFN: dict[str, Support] = {"llama_cpp": Lowered(way="zero_ffn", into="an FFN of 32 channels, all zero")}


class _NoOp(Alternative):
    """Nothing in place of either sub-block."""

    summary: ClassVar[str] = (
        "The sub-block is left out, with its norm: it adds nothing to the residual stream."
    )
    trainable: ClassVar[bool] = False
    look: ClassVar[Look] = "noop"

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """Anything can be replaced that is there."""
        return absent(cls.sub_block, shape)

    def weights(self, shape: Shape) -> Weights:
        """Return nothing."""
        return {}

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return the flag."""
        return {**self.no_size, "no_op": True}

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """An entry with the flag."""
        return cls() if entry["no_op"] else None

    def per_layer(self, shape: Shape) -> dict[str, Any]:
        """Return the name of the sub-block."""
        return {"skip": [self.part]}

    def megatron(self, shape: Shape) -> dict[str, Any]:
        """Return the flag."""
        return {self.megatron_size: None, "no_op": True}


class NoOpAttention(_NoOp, Attention):
    """Attention removed: the sub-block contributes nothing to the residual stream."""

    kind: Literal["noop"] = "noop"

    def support(self, runtime: str, *, first: bool) -> Support:
        """Rewritten in the first layer where a runtime needs an attention there."""
        return FIRST.get(runtime, NATIVE) if first else NATIVE


class NoOpFfn(_NoOp, Ffn):
    """FFN removed."""

    kind: Literal["noop"] = "noop"

    def support(self, runtime: str, *, first: bool) -> Support:
        """Rewritten where a layer needs an FFN."""
        return AS_FFN.get(runtime, NATIVE)
