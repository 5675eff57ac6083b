"""One hidden x hidden matrix in place of a sub-block (Puzzle, arXiv 2411.19146, section 3), or nothing in its place."""

from collections.abc import Sequence
from typing import Any, ClassVar

from puzzledsl.alternatives.alternative import ANY_KIND, KIND_FIELDS, Alternative, Attention, Ffn, Look
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Arguments


class _Linear(Alternative):
    """A matrix in place of either sub-block."""

    place: ClassVar[int] = 80
    summary: ClassVar[str] = "One hidden x hidden matrix in place of the sub-block."
    replaces: ClassVar[tuple[str, ...]] = ANY_KIND
    initialisers: ClassVar[tuple[str, ...]] = ("least_squares",)
    writes_default: ClassVar[bool] = True
    solved_by: ClassVar[str] = "least_squares"
    in_families: ClassVar[bool] = True
    look: ClassVar[Look] = "linear"

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return the matrix, alone; `parent` where the parent's sub-block is one matrix itself."""
        there = getattr(call.shape, KIND_FIELDS[cls.sub_block]) == "linear"
        return [PARENTS[cls.sub_block] if there else cls()]

    def changes(self, shape: Shape) -> dict[str, Any]:
        """Return the field that puts one matrix in the place of the sub-block."""
        return {KIND_FIELDS[self.sub_block]: "linear"}


class LinearAttention(_Linear, Attention, kind="linear"):
    """One hidden x hidden matrix that replaces attention."""


class LinearFfn(_Linear, Ffn, kind="linear"):
    """One hidden x hidden matrix that replaces the FFN."""


class _NoOp(Alternative):
    """Nothing in place of either sub-block."""

    place: ClassVar[int] = 90
    summary: ClassVar[str] = (
        "The sub-block is left out, with its norm: it adds nothing to the residual stream."
    )
    replaces: ClassVar[tuple[str, ...]] = ANY_KIND
    in_families: ClassVar[bool] = True
    own_weights: ClassVar[bool] = False
    removes: ClassVar[bool] = True
    quantisable: ClassVar[bool] = False
    look: ClassVar[Look] = "noop"

    def changes(self, shape: Shape) -> dict[str, Any]:
        """Return the field that removes the sub-block from the layer."""
        return {KIND_FIELDS[self.sub_block]: "none"}


class NoOpAttention(_NoOp, Attention, kind="noop"):
    """Attention removed: the sub-block contributes nothing to the residual stream."""


class NoOpFfn(_NoOp, Ffn, kind="noop"):
    """FFN removed."""
