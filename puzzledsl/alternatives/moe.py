"""A mixture of experts made of the parent's channels. It has costs and can be searched; no module is built yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from puzzledsl.alternatives.alternative import Alternative, Ffn
from puzzledsl.alternatives.arguments import Argument, Arguments
from puzzledsl.alternatives.errors import ImpossibleExperts
from puzzledsl.alternatives.mlp import MAX_ROUND
from puzzledsl.alternatives.parent import counted_mixture, mixture_weights
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.alternatives.support import Absent, Architecture, Support
from puzzledsl.alternatives.weights import Weight, Weights

MAX_EXPERTS = 4096


class MoeFfn(Ffn):
    """A mixture of `experts` FFNs of `width` channels each, `top_k` active per token."""

    kind: Literal["moe"] = "moe"
    experts: int
    top_k: int
    width: int

    summary: ClassVar[str] = "A mixture of experts made of the parent's channels."
    arguments: ClassVar[Mapping[str, Argument]] = {
        "experts": Argument("How many experts."),
        "top_k": Argument("Experts that are active for a token."),
        "width": Argument("Channels of an expert; without it the parent's are shared out."),
        "round": Argument("Widths are rounded to the nearest multiple of this.", default="`1`"),
    }
    positional: ClassVar[int] = 2
    name_pattern: ClassVar[str] = r"moe\d+k\d+w\d+"
    last_map: ClassVar[str | None] = "down_proj"

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return an alternative for each number of experts, of active experts, and each width."""
        call.need("experts", "top_k", help="write `moe(experts: 8, top_k: 2)`")
        multiple = call.whole("round", 1, 1, MAX_ROUND)
        if call.failed:
            return []
        experts = call.wholes("experts", 1, MAX_EXPERTS)
        active = call.wholes("top_k", 1, MAX_EXPERTS)
        widths = call.widths("width", multiple) if call.has("width") else None
        if not call.affords(len(experts) * len(active) * (1 if widths is None else len(widths))):
            return []
        found: list[Alternative] = []
        for count in experts:
            for top_k in active:
                if top_k > count:
                    call.refuse("top_k", ImpossibleExperts(call.place("top_k"), top_k=top_k, experts=count))
                    continue
                own = [max(1, call.shape.intermediate // count)] if widths is None else widths
                found += [cls(experts=count, top_k=top_k, width=width) for width in own]
        return found

    @property
    def name(self) -> str:
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
        """Return the channels of all experts."""
        return self.experts * self.width

    def initialiser(self, init: Initialisers) -> str:
        """Return `init { mlp = … }`."""
        return init.mlp

    def kept(self, shape: Shape, parent_params: int) -> float:
        """Return the share of channels."""
        return self.channels(shape) / shape.intermediate

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """No runtime's children have mixtures of experts."""
        return Absent(reason="no runtime's children have mixtures of experts")

    def block_config(self, shape: Shape) -> dict[str, Any] | None:
        """It has no module."""
        return None
