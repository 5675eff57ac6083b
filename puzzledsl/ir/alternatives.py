"""The alternatives of a sub-block: one closed union for attention, one for the FFN, with their canonical names.

Tables, reports and JSON use the canonical names: `parent`, `gqa4`, `gqa4w8192`, `gqa4w64s4`, `mlp21504`,
`moe8k2w1024`, `linear`, `noop`.
"""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field

from puzzledsl.ir.base import Frozen

SubBlock = Literal["attention", "ffn"]


class ParentAttention(Frozen):
    """The parent's own attention, untouched."""

    kind: Literal["parent"] = "parent"


class GqaAttention(Frozen):
    """Grouped-query attention with `kv_heads` key/value heads; `window` caps the KV length in tokens (None: no cap).

    With a window, a token attends to `window` tokens in total: the first `sinks` of the sequence, then the most
    recent ones, itself included.
    """

    kind: Literal["gqa"] = "gqa"
    kv_heads: int
    window: int | None = None
    sinks: int = Field(
        default=0, exclude_if=lambda sinks: not sinks
    )  # so that plain attention keeps its pieces' ids


class LinearAttention(Frozen):
    """One hidden x hidden matrix that replaces attention."""

    kind: Literal["linear"] = "linear"


class NoOpAttention(Frozen):
    """Attention removed: the sub-block contributes nothing to the residual stream."""

    kind: Literal["noop"] = "noop"


class ParentFfn(Frozen):
    """The parent's own FFN, untouched."""

    kind: Literal["parent"] = "parent"


class MlpFfn(Frozen):
    """A gated FFN of `width` intermediate channels."""

    kind: Literal["mlp"] = "mlp"
    width: int


class MoeFfn(Frozen):
    """A mixture of `experts` FFNs of `width` channels each, `top_k` active per token."""

    kind: Literal["moe"] = "moe"
    experts: int
    top_k: int
    width: int


class LinearFfn(Frozen):
    """One hidden x hidden matrix that replaces the FFN."""

    kind: Literal["linear"] = "linear"


class NoOpFfn(Frozen):
    """FFN removed."""

    kind: Literal["noop"] = "noop"


AttentionAlternative = Annotated[
    ParentAttention | GqaAttention | LinearAttention | NoOpAttention, Field(discriminator="kind")
]
FfnAlternative = Annotated[ParentFfn | MlpFfn | MoeFfn | LinearFfn | NoOpFfn, Field(discriminator="kind")]
Alternative = AttentionAlternative | FfnAlternative


def name_of(alternative: Alternative) -> str:
    """Return the canonical name of an alternative within its sub-block, such as `gqa4w64s4` or `mlp21504`."""
    match alternative:
        case ParentAttention() | ParentFfn():
            return "parent"
        case GqaAttention(kv_heads=kv_heads, window=window, sinks=sinks):
            seen = "" if window is None else f"w{window}"
            return f"gqa{kv_heads}{seen}" + (f"s{sinks}" if sinks else "")
        case MlpFfn(width=width):
            return f"mlp{width}"
        case MoeFfn(experts=experts, top_k=top_k, width=width):
            return f"moe{experts}k{top_k}w{width}"
        case LinearAttention() | LinearFfn():
            return "linear"
        case NoOpAttention() | NoOpFfn():
            return "noop"
        case _:
            assert_never(alternative)
