"""The parent's gated FFN with fewer intermediate channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from puzzledsl.alternatives.alternative import Alternative, Ffn, absent
from puzzledsl.alternatives.parent import ParentFfn, ffn_weights, width_fields
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Architecture, Argument, Arguments, Support
from puzzledsl.alternatives.weights import Weights

MAX_ROUND = 2**24


class MlpFfn(Ffn):
    """A gated FFN of `width` intermediate channels."""

    kind: Literal["mlp"] = "mlp"
    width: int

    place: ClassVar[int] = 10
    initialisers: ClassVar[tuple[str, ...]] = ("least_squares", "channel_contribution")
    writes_default: ClassVar[bool] = True
    summary: ClassVar[str] = "The parent's FFN with fewer intermediate channels."
    arguments: ClassVar[Mapping[str, Argument]] = {
        "width": Argument("Channels, or a share of the parent's, of those a token uses: `100% | 75% | 50%`."),
        "round": Argument("Widths are rounded to the nearest multiple of this.", default="`1`"),
    }
    positional: ClassVar[int] = 1
    name_pattern: ClassVar[str] = r"mlp\d+"
    refined: ClassVar[bool] = True
    last_map: ClassVar[str | None] = "down_proj"

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return an alternative for each width."""
        call.need("width", help="write `mlp(width: 50%)` or `mlp(width: 4096)`")
        multiple = call.whole("round", 1, 1, MAX_ROUND)
        whole = call.shape.ffn_width
        return [
            ParentFfn() if width == whole and call.shape.ffn == "dense" else cls(width=width)
            for width in call.widths("width", multiple, whole)
        ]

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """A dense FFN can stand in place of a mixture, too."""
        return absent("ffn", shape)

    @property
    def plain_name(self) -> str:
        """`mlp21504`."""
        return f"mlp{self.width}"

    def weights(self, shape: Shape) -> Weights:
        """Return gate, up and down with optional biases."""
        return ffn_weights(shape, self.width)

    def channels(self, shape: Shape) -> int:
        """Return the width."""
        return self.width

    def kept(self, shape: Shape, parent_params: int) -> float:
        """Return the share of channels."""
        return self.width / shape.ffn_width

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return the support of an FFN of another width, or of a dense one where the parent has a mixture."""
        return engine.dense_in_mixture if shape.ffn == "moe" else engine.width

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return the width."""
        return width_fields(self.width, shape.hidden)

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """An FFN of another width than the parent's."""
        if entry["no_op"] or entry["replace_with_linear"] or entry.get("num_experts") is not None:
            return None
        width = int(entry["intermediate_size"])
        return None if shape.ffn == "dense" and width == shape.intermediate else cls(width=width)

    def on_base(self, shape: Shape, base: Shape) -> Alternative:
        """An FFN of the base's own width is the base's."""
        return ParentFfn() if base.ffn == "dense" and self.width == base.intermediate else self

    def in_parent(self, shape: Shape) -> dict[str, Any]:
        """Return the kind and the width."""
        return {"ffn": "dense", "intermediate": self.width}
