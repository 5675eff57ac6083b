"""One hidden x hidden matrix in place of a sub-block (Puzzle, arXiv 2411.19146, section 3).

A removed sub-block: it adds nothing to the residual stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from puzzledsl.alternatives.alternative import Alternative, Attention, Ffn, Look, absent
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Architecture, Arguments, Support
from puzzledsl.alternatives.weights import Weights, matrix_weights


class _Linear(Alternative):
    """A matrix in place of either sub-block."""

    place: ClassVar[int] = 80
    initialisers: ClassVar[tuple[str, ...]] = ("least_squares", "product")
    writes_default: ClassVar[bool] = True
    summary: ClassVar[str] = "One hidden x hidden matrix in place of the sub-block."
    last_map: ClassVar[str | None] = "linear"
    look: ClassVar[Look] = "linear"

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """Anything can be replaced that is there."""
        return absent(cls.sub_block, shape)

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return the matrix; the parent's own where it has one."""
        there = getattr(call.shape, cls.shape_field) == "linear"
        return [PARENTS[cls.sub_block] if there else cls()]

    def weights(self, shape: Shape) -> Weights:
        """Return one matrix, split by rows."""
        return matrix_weights(shape)

    def is_solved(self, initialiser: str) -> bool:
        """A least-squares fit is the optimum."""
        return initialiser == "least_squares"

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return the flag."""
        return {**self.no_size, "replace_with_linear": True}

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """An entry with the flag."""
        return cls() if entry["replace_with_linear"] and not entry["no_op"] else None

    def in_parent(self, shape: Shape) -> dict[str, Any]:
        """Return the kind."""
        return {self.shape_field: "linear"}


class LinearAttention(_Linear, Attention):
    """One hidden x hidden matrix that replaces attention."""

    kind: Literal["linear"] = "linear"

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return the support of a matrix in attention's place."""
        return engine.linear_attention


class LinearFfn(_Linear, Ffn):
    """One hidden x hidden matrix that replaces the FFN."""

    kind: Literal["linear"] = "linear"

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return the support of a matrix in the FFN's place."""
        return engine.linear_ffn


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
