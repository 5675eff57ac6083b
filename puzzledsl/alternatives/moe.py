"""A mixture with fewer experts than the parent's, fewer of them for a token, or narrower ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from puzzledsl.alternatives.alternative import Alternative, Ffn, absent
from puzzledsl.alternatives.errors import ImpossibleExperts
from puzzledsl.alternatives.mlp import MAX_ROUND
from puzzledsl.alternatives.parent import ParentFfn, counted_mixture, mixture_fields, mixture_weights
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import NATIVE, Architecture, Argument, Arguments, Support, worst
from puzzledsl.alternatives.weights import Weight, Weights

MAX_EXPERTS = 4096
ALIGNED = 8
"""Widths are multiples of this: grouped products of experts want rows of 16 bytes, in bfloat16 too."""


class MoeFfn(Ffn):
    """A mixture of `experts` FFNs of `width` channels each, `top_k` active per token."""

    kind: Literal["moe"] = "moe"
    experts: int
    top_k: int
    width: int

    place: ClassVar[int] = 20
    initialisers: ClassVar[tuple[str, ...]] = ("least_squares", "reap", "frequency")
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

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """Only a mixture has experts."""
        return (
            "the FFN there is dense, and no mixture is made of one"
            if shape.ffn == "dense"
            else absent("ffn", shape)
        )

    def whole_width(self, shape: Shape) -> int:
        """Return the width of the parent's experts."""
        return shape.expert_width

    @property
    def plain_name(self) -> str:
        """`moe8k2w1024`."""
        return f"moe{self.experts}k{self.top_k}w{self.width}"

    def weights(self, shape: Shape) -> Weights:
        """Return the router, whole on every GPU, and the experts, each split by channels."""
        return mixture_weights(shape, self.experts, self.width)

    def counted(self, shape: Shape) -> Iterable[tuple[Weight, int]]:
        """Return one expert's weights with the number of experts."""
        return counted_mixture(shape, self.experts, self.width)

    def routing(self, shape: Shape) -> tuple[int, int]:
        """Return the number of experts and the number that one token uses."""
        return self.experts, self.top_k

    def channels(self, shape: Shape) -> int:
        """Return the channels of all experts, shared ones too."""
        return self.experts * self.width + shape.shared_width

    def kept(self, shape: Shape, parent_params: int) -> float:
        """Return the share of channels."""
        return self.experts * self.width / (shape.experts * shape.expert_width)

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return what the architecture has of its number of experts and their width."""
        return worst(
            engine.experts if self.experts != shape.experts else NATIVE,
            engine.expert_width if self.width != shape.expert_width else NATIVE,
        )

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return the sizes."""
        return mixture_fields(self.experts, self.top_k, self.width)

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """A mixture of other sizes than the parent's. Raises ValueError for more experts of a token than there are."""
        if entry["no_op"] or entry["replace_with_linear"] or entry.get("num_experts") is None:
            return None
        sizes = (entry["num_experts"], entry["num_experts_per_tok"], entry["moe_intermediate_size"])
        experts, top_k, width = map(int, sizes)
        if not 1 <= top_k <= experts or width < 1:
            raise ValueError(f"a mixture of {experts} experts of {width} channels, {top_k} of a token")
        return cls(experts=experts, top_k=top_k, width=width)

    def on_base(self, shape: Shape, base: Shape) -> Alternative:
        """A mixture of the base's own sizes is the base's."""
        own = (base.ffn, base.experts, base.top_k, base.expert_width)
        return ParentFfn() if own == ("moe", self.experts, self.top_k, self.width) else self

    def in_parent(self, shape: Shape) -> dict[str, Any]:
        """Return the kind and the sizes."""
        return {"ffn": "moe", "experts": self.experts, "top_k": self.top_k, "expert_width": self.width}
