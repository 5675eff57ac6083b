"""A gated FFN whose maps are products of two thin matrices: W = B A with A (R, inputs) and B (outputs, R)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from puzzledsl.alternatives.alternative import Alternative, Ffn
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Argument, Arguments
from puzzledsl.alternatives.weights import Weight, Weights


class LowRankFfn(Ffn, kind="low_rank"):
    """A gated FFN of the parent's width whose gate, up and down have rank `rank`."""

    rank: int

    summary: ClassVar[str] = "The parent's FFN with maps of low rank: each is a product of two thin matrices."
    arguments: ClassVar[Mapping[str, Argument]] = {"rank": Argument("Rank of each map: `192 | 96`.")}
    positional: ClassVar[int] = 1
    name_pattern: ClassVar[str] = r"low_rank\d+"
    last_maps: ClassVar[tuple[str, ...]] = ("down_out",)

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return an alternative for each rank, at most the parent's."""
        call.need("rank", help="write `low_rank(rank: 96)`")
        full = min(call.shape.hidden, call.shape.intermediate)
        return [cls(rank=rank) for rank in call.wholes("rank", 1, full)]

    @property
    def plain_name(self) -> str:
        """`low_rank96`."""
        return f"low_rank{self.rank}"

    def weights(self, shape: Shape) -> Weights:
        """Return the thin matrices; the wide side of each is split over the GPUs where it is the channels'."""
        hidden, width, rank = shape.hidden, shape.intermediate, self.rank
        found = {
            "gate_in.weight": Weight((rank, hidden)),
            "gate_out.weight": Weight((width, rank), 0),
            "up_in.weight": Weight((rank, hidden)),
            "up_out.weight": Weight((width, rank), 0),
            "down_in.weight": Weight((rank, width), 1),
            "down_out.weight": Weight((hidden, rank)),
        }
        if shape.mlp_bias:
            found |= {
                "gate_out.bias": Weight((width,), 0),
                "up_out.bias": Weight((width,), 0),
                "down_out.bias": Weight((hidden,)),
            }
        return found

    def changes(self, shape: Shape) -> dict[str, Any]:
        """The kind: it has the parent's width."""
        return {"ffn": "dense"}
