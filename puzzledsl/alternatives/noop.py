"""A removed sub-block: it adds nothing to the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from puzzledsl.alternatives.alternative import Alternative, Attention, Ffn, Look, absent
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Architecture, Support
from puzzledsl.alternatives.weights import Weights


class _NoOp(Alternative):
    """Nothing in place of either sub-block."""

    place: ClassVar[int] = 90
    summary: ClassVar[str] = (
        "The sub-block is left out, with its norm: it adds nothing to the residual stream."
    )
    own_weights: ClassVar[bool] = False
    quantisable: ClassVar[bool] = False
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

    def on_base(self, shape: Shape, base: Shape) -> Alternative:
        """Nothing in place of nothing is the base's."""
        return PARENTS[self.sub_block] if getattr(base, self.shape_field) == "none" else self

    def in_parent(self, shape: Shape) -> dict[str, Any]:
        """The layer has no such sub-block."""
        return {self.shape_field: "none"}

    def per_layer(self, shape: Shape) -> dict[str, Any]:
        """Return the name of the sub-block."""
        return {"skip": [self.part]}

    def megatron(self, shape: Shape) -> dict[str, Any]:
        """Return the flag."""
        return {self.megatron_size: None, "no_op": True}


class NoOpAttention(_NoOp, Attention):
    """Attention removed: the sub-block contributes nothing to the residual stream."""

    kind: Literal["noop"] = "noop"

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return the support of a layer without attention; some need one in the first layer."""
        return engine.no_first_attention if first else engine.no_attention


class NoOpFfn(_NoOp, Ffn):
    """FFN removed."""

    kind: Literal["noop"] = "noop"

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return the support of a layer without FFN."""
        return engine.no_ffn
