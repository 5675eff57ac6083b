"""A mixture with fewer experts than the parent's, fewer of them for a token, or narrower ones."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from puzzledsl.alternatives.alternative import Alternative, Ffn
from puzzledsl.alternatives.mlp import MAX_ROUND
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Argument, Arguments
from puzzledsl.base.diagnostics import Mistake

MAX_EXPERTS = 4096
ALIGNED = 8
"""Widths are multiples of this: grouped products of experts want rows of 16 bytes, in bfloat16 too."""


ImpossibleExperts = Mistake("E0411", "top_k={top_k} of experts={experts}", "top_k goes from 1 to experts")


class MoeFfn(Ffn, kind="moe"):
    """A mixture of `experts` FFNs of `width` channels each, `top_k` active per token."""

    experts: int
    top_k: int
    width: int

    place: ClassVar[int] = 20
    initialisers: ClassVar[tuple[str, ...]] = ("least_squares",)
    summary: ClassVar[str] = "The parent's mixture with fewer or narrower experts."
    arguments: ClassVar[Mapping[str, Argument]] = {
        "experts": Argument("Experts that are kept: `64 | 32`.", default="the parent's"),
        "top_k": Argument("Experts that are active for a token.", default="the parent's"),
        "width": Argument(
            "Channels of an expert, or a share of the parent's: `75%`.", default="the parent's"
        ),
        "round": Argument("Widths are rounded to the nearest multiple of this.", default="`8`"),
    }
    positional: ClassVar[int] = 2
    name_pattern: ClassVar[str] = r"moe\d+k\d+w\d+"
    replaces: ClassVar[tuple[str, ...]] = ("moe", "linear")
    in_families: ClassVar[bool] = True

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return an alternative for each number of experts, of active experts, and each width."""
        if not any(call.has(key) for key in ("experts", "top_k", "width")):
            call.need("experts", help="write `moe(experts: 64)`, `moe(top_k: 2)` or `moe(width: 50%)`")
        shape, multiple = call.shape, call.whole("round", ALIGNED, 1, MAX_ROUND)
        if call.failed:
            return []
        most = f"the parent has {shape.experts} experts in a layer, which is `experts` where it is left out"
        counts = call.wholes("experts", 1, shape.experts, help=most, absent=shape.experts)
        active = call.wholes("top_k", 1, MAX_EXPERTS, absent=shape.top_k)
        own = shape.expert_width
        widths = call.widths("width", multiple, own) if call.has("width") else [own]
        if not call.affords(len(counts) * len(active) * len(widths)):
            return []
        found: list[Alternative] = []
        for experts in counts:
            for top_k in active:
                if top_k > experts:
                    key = "top_k" if call.has("top_k") else "experts"
                    call.refuse(key, ImpossibleExperts(call.place(key), top_k=top_k, experts=experts))
                    continue
                found += [cls(experts=experts, top_k=top_k, width=width) for width in widths]
        whole = cls(experts=shape.experts, top_k=shape.top_k, width=own)
        return [ParentFfn() if mixture == whole else mixture for mixture in found]

    @property
    def plain_name(self) -> str:
        """Canonical name without a storage type: `moe8k2w1024`."""
        return f"moe{self.experts}k{self.top_k}w{self.width}"

    def changes(self, shape: Shape) -> dict[str, Any]:
        """Return the fields of a mixture of these sizes."""
        return {"ffn": "moe", "experts": self.experts, "top_k": self.top_k, "expert_width": self.width}
