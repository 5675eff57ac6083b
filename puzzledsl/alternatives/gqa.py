"""Grouped-query attention with fewer key/value heads, a sliding window, attention sinks (arXiv 2305.13245, 2309.17453)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from math import gcd
from typing import Any, ClassVar, Literal, Self

from puzzledsl.alternatives.alternative import UNCAPPED, Alternative, Attention
from puzzledsl.alternatives.errors import HeadsDontDivide, KvHeadsDontDivide, SinksDontFit
from puzzledsl.alternatives.parent import ParentAttention, attention_weights
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import NATIVE, Architecture, Argument, Arguments, Support, worst
from puzzledsl.alternatives.weights import Weights
from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.frozen import left_out
from puzzledsl.base.phrases import listed

MAX_WINDOW = 2**40


class GqaAttention(Attention):
    """Grouped-query attention with `kv_heads` key/value heads; `window` caps the KV length in tokens (None: no cap).

    With fewer query `heads` than the parent's, each key/value head serves heads / kv_heads of them.

    With a window, a token attends to `window` tokens in total: the first `sinks` of the sequence, then the most
    recent ones, itself included.
    """

    kind: Literal["gqa"] = "gqa"
    kv_heads: int
    heads: int | None = left_out(None)  # None: the parent's
    window: int | None = None
    sinks: int = left_out(0)  # so that plain attention keeps its pieces' ids

    place: ClassVar[int] = 10
    summary: ClassVar[str] = "Grouped-query attention with fewer key/value heads, or a window."
    arguments: ClassVar[Mapping[str, Argument]] = {
        "kv_heads": Argument(
            "Key/value heads: divisors of the parent's. `8 | 4 | 2 | 1` is one alternative each.",
            default="the parent's",
        ),
        "heads": Argument(
            "Query heads: multiples of the key/value heads, at most the parent's.", default="the parent's"
        ),
        "window": Argument(
            "Tokens attended to at most: `full`, or `8Ki`.", words=("full",), default="`full`"
        ),
        "sinks": Argument(
            "How many of a window's tokens are the sequence's first: 0 unless said; 4 does well.",
            default="`0`",
        ),
    }
    positional: ClassVar[int] = 1
    initialisers: ClassVar[tuple[str, ...]] = ("least_squares", "mean_pool")
    writes_default: ClassVar[bool] = True
    name_pattern: ClassVar[str] = r"gqa\d+(h\d+)?(w\d+(s\d+)?)?"
    refined: ClassVar[bool] = True
    last_map: ClassVar[str | None] = "o_proj"

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return an alternative for each number of heads and each window."""
        heads = _heads(call)
        if not call.has("heads") and not call.has("window"):
            call.need("kv_heads", help="write `gqa(kv_heads: 4)`; several are `gqa(kv_heads: 4 | 2)`")
        written, own = call.wholes("window", 1, MAX_WINDOW, absent=0), call.shape.window
        sinks = _sinks(call, written) if call.has("sinks") else 0
        windows = [window if window and not (own and window >= own) else None for window in written]
        if not call.affords(len(heads) * len(windows)):
            return []
        return [
            ParentAttention()
            if kv == call.shape.kv_heads and queries is None and window is None
            else cls(kv_heads=kv, heads=queries, window=window, sinks=sinks if window else 0)
            for kv, queries in heads
            for window in windows
        ]

    @property
    def plain_name(self) -> str:
        """`gqa4`, `gqa4h16`, `gqa4w8192`, `gqa4w64s4`."""
        seen = "" if self.heads is None else f"h{self.heads}"
        seen += "" if self.window is None else f"w{self.window}"
        return f"gqa{self.kv_heads}{seen}" + (f"s{self.sinks}" if self.sinks else "")

    def figure(self, field: str, shape: Shape) -> Fraction | None:
        """Return a field; no window compares as larger than any, missing heads are the parent's."""
        if field == "window":
            return Fraction(self.attended(shape) or UNCAPPED)
        if field == "heads" and self.heads is None:
            return Fraction(shape.heads)
        return super().figure(field, shape)

    def weights(self, shape: Shape) -> Weights:
        """Return q, k, v, o with optional biases and per-head q/k norms."""
        return attention_weights(shape.model_copy(update={"heads": self.query_heads(shape)}), self.kv_heads)

    def query_heads(self, shape: Shape) -> int:
        """Return the number of query heads."""
        return shape.heads if self.heads is None else self.heads

    def cached_heads(self, shape: Shape) -> int:
        """Return the key/value heads."""
        return self.kv_heads

    def attended(self, shape: Shape) -> int | None:
        """Return the tokens in both the parent's window and this one's."""
        return self._seen(shape)[0]

    def _seen(self, shape: Shape) -> tuple[int | None, int]:
        """Return window and sinks of what the parent's layer and this one both see."""
        if self.window is None or shape.window is None:
            own = self.window is not None
            return (self.window, self.sinks) if own else (shape.window, shape.window_sinks)
        sinks = min(self.sinks, shape.window_sinks)
        return min(self.window - self.sinks, shape.window - shape.window_sinks) + sinks, sinks

    def in_parent(self, shape: Shape) -> dict[str, Any]:
        """Return heads and window."""
        window, sinks = self._seen(shape)
        heads = {"heads": self.query_heads(shape), "kv_heads": self.kv_heads}
        return {"mixer": "attention", **heads, "window": window, "window_sinks": sinks}

    def on_base(self, shape: Shape, base: Shape) -> Alternative:
        """Keep query heads and window of the parent's layer, unless the family's own layer has them."""
        heads, window, sinks = self.query_heads(shape), *self._seen(shape)
        if (window, sinks) == (base.window, base.window_sinks):
            window, sinks = None, 0
        if window is None and (heads, self.kv_heads) == (base.heads, base.kv_heads):
            return ParentAttention()
        own = None if heads == base.heads else heads
        return GqaAttention(kv_heads=self.kv_heads, heads=own, window=window, sinks=sinks)

    def kept(self, shape: Shape, parent_params: int) -> float:
        """Return the root of the share of heads: steps of two heads look alike."""
        return float((self.kv_heads / shape.kv_heads * self.query_heads(shape) / shape.heads) ** 0.5)

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return what the architecture has of its heads and its window."""
        return worst(
            engine.heads if self.heads is not None else NATIVE,
            engine.window if self.attended(shape) is not None else NATIVE,
            engine.first_tokens if self._seen(shape)[1] else NATIVE,
            engine.kv_heads if self.kv_heads != shape.kv_heads else NATIVE,
        )

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return query heads per key/value head, window and sinks; and the query heads if there are fewer."""
        fields = {} if self.heads is None else {"num_attention_heads": self.heads}
        return {
            "n_heads_in_group": self.query_heads(shape) // self.kv_heads,
            "window_length": self.window,
            "num_sink_tokens": self.sinks or None,
            **fields,
        }

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """An attention with fewer heads than the parent's, or with a window."""
        if entry["no_op"] or entry["replace_with_linear"]:
            return None
        heads, window = entry.get("num_attention_heads"), entry.get("window_length")
        kv_heads = (heads or shape.heads) // int(entry["n_heads_in_group"])
        if window is None and kv_heads == shape.kv_heads and heads is None:
            return None
        return cls(kv_heads=kv_heads, heads=heads, window=window, sinks=entry.get("num_sink_tokens") or 0)


def _heads(call: Arguments) -> list[tuple[int, int | None]]:
    """Return the pairs of key/value heads and query heads; None for the parent's number of these."""
    shape = call.shape
    most = f"the parent has {shape.heads} query heads, which is `heads` where it is left out"
    queries = call.wholes("heads", 1, shape.heads, help=most, absent=shape.heads)
    check = partial(_indivisible, shape)
    own = call.wholes("kv_heads", check=check, absent=shape.kv_heads)
    found: list[tuple[int, int | None]] = []
    for kv in own:
        for heads in queries:
            if heads % kv:
                near = list(range(kv, shape.heads + 1, kv))[:4096]
                help = f"with {kv} key/value heads `heads` can be {listed(near, 'or')}"
                call.refuse(
                    "heads", HeadsDontDivide(call.place("heads"), heads=heads, kv_heads=kv, help=help)
                )
            else:
                found.append((kv, None if heads == shape.heads else heads))
    return found


def _indivisible(shape: Shape, kv_heads: int, span: Span) -> Diagnostic | None:
    """Return the diagnostic of a number of heads that divides the parent's query or key/value heads not."""
    for what, heads in (("query", shape.heads), ("key/value", shape.kv_heads)):
        if heads % kv_heads:
            common = gcd(shape.kv_heads, shape.heads)
            divisors = [d for d in range(1, min(shape.kv_heads, 4096) + 1) if common % d == 0]
            help = "kv_heads can be " + listed(divisors, "or")
            return KvHeadsDontDivide(span, got=kv_heads, heads=heads, what=what, help=help)
    return None


def _sinks(call: Arguments, windows: Sequence[int]) -> int:
    """Return the number of attention sinks: tokens at the start of the sequence that every window keeps."""
    sinks = call.whole("sinks", 0)
    sizes = [window for window in windows if window]
    if not sinks or not call.is_valid("window"):
        return 0
    if not sizes:
        reason, help = "has no window", f"write `window: 64, sinks: {sinks}`, or leave `sinks` out"
    elif call.shape.window is not None and sinks > call.shape.window_sinks:
        reason = f"belongs to a parent that sees {call.shape.window:,} tokens at most"
        help = "leave `sinks` out: the parent's own window hides the first tokens"
        if call.shape.window_sinks:
            help = f"the parent's own window keeps {call.shape.window_sinks} first tokens: `sinks` goes up to that"
    elif sinks >= min(sizes):
        reason = f"sees {min(sizes):,} tokens in all, itself among them"
        help = f"`sinks` can be 0 to {min(sizes) - 1:,}" + ("; 4 does well" if min(sizes) > 4 else "")
    else:
        return sinks
    call.refuse("sinks", SinksDontFit(call.place("sinks"), sinks=sinks, reason=reason, help=help))
    return 0
