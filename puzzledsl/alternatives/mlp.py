"""A dense FFN with fewer intermediate channels than the parent's."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from puzzledsl.alternatives.alternative import Alternative, Ffn
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Argument, Arguments

MAX_ROUND = 2**24


class MlpFfn(Ffn, kind="mlp"):
    """A dense FFN of `width` intermediate channels, gated if the parent's is."""

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
    replaces: ClassVar[tuple[str, ...]] = ("dense", "moe", "linear")
    in_families: ClassVar[bool] = True

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

    @property
    def plain_name(self) -> str:
        """Canonical name without a storage type: `mlp21504`."""
        return f"mlp{self.width}"

    def changes(self, shape: Shape) -> dict[str, Any]:
        """Return the fields of a dense FFN of `width` channels, also where the parent has a mixture."""
        return {"ffn": "dense", "intermediate": self.width}
