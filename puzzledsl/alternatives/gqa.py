"""Grouped-query attention with fewer key/value heads, a sliding window, attention sinks (arXiv 2305.13245, 2309.17453)."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import gcd
from typing import Any, ClassVar

from puzzledsl.alternatives.alternative import Alternative, Attention
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Argument, Arguments
from puzzledsl.base.diagnostics import Diagnostic, Mistake, Span
from puzzledsl.base.frozen import left_out
from puzzledsl.base.phrases import listed

MAX_WINDOW = 2**40


KvHeadsDontDivide = Mistake("E0207", "kv_heads={got} does not divide the parent's {heads} {what} heads")
HeadsDontDivide = Mistake("E0224", "heads={heads} is no multiple of kv_heads={kv_heads}")
SinksDontFit = Mistake("E0223", "no room for {sinks} first tokens: this attention {reason}")


class GqaAttention(Attention, kind="gqa"):
    """Grouped-query attention with `kv_heads` key/value heads; `window` caps the KV length in tokens (None: no cap).

    With fewer query `heads` than the parent's, each key/value head serves heads / kv_heads of them.

    With a window, a token attends to `window` tokens in total: the first `sinks` of the sequence, then the most
    recent ones, itself included.
    """

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
    in_families: ClassVar[bool] = True
    has_cache: ClassVar[bool] = True

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
        """Canonical name without storage types: `gqa4`, `gqa4h16` (query heads), `gqa4w8192`, `gqa4w64s4` (sinks)."""
        seen = "" if self.heads is None else f"h{self.heads}"
        seen += "" if self.window is None else f"w{self.window}"
        return f"gqa{self.kv_heads}{seen}" + (f"s{self.sinks}" if self.sinks else "")

    def changes(self, shape: Shape) -> dict[str, Any]:
        """Return the heads, and a window of the tokens that are in both the parent's window and this one."""
        window, sinks = self.window, self.sinks
        if window is None:
            window, sinks = shape.window, shape.window_sinks
        elif shape.window is not None:
            sinks = min(self.sinks, shape.window_sinks)
            window = min(window - self.sinks, shape.window - shape.window_sinks) + sinks
        heads = {"heads": self.heads or shape.heads, "kv_heads": self.kv_heads}
        return {"mixer": "attention", **heads, "window": window, "window_sinks": sinks}


def _heads(call: Arguments) -> list[tuple[int, int | None]]:
    """Return the pairs (key/value heads, query heads) of a call; query heads are None if they are as many as the parent's."""
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
                problem = HeadsDontDivide(call.place("heads"), heads=heads, kv_heads=kv, help=help)
                call.refuse("heads", problem)
            else:
                found.append((kv, None if heads == shape.heads else heads))
    return found


def _indivisible(shape: Shape, kv_heads: int, span: Span) -> Diagnostic | None:
    """Return a diagnostic if `kv_heads` does not divide both the parent's query and key/value heads; None if it does."""
    for what, heads in (("query", shape.heads), ("key/value", shape.kv_heads)):
        if heads % kv_heads:
            common = gcd(shape.kv_heads, shape.heads)
            divisors = [d for d in range(1, min(shape.kv_heads, 4096) + 1) if common % d == 0]
            help = "kv_heads can be " + listed(divisors, "or")
            return KvHeadsDontDivide(span, got=kv_heads, heads=heads, what=what, help=help)
    return None


def _sinks(call: Arguments, windows: Sequence[int]) -> int:
    """Return the number of attention sinks, first tokens of the sequence that every window keeps; 0, reported, if they misfit."""
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
