"""The alternatives of a sub-block as calls, and the initialisers of those that are trained."""

from __future__ import annotations

from puzzledsl.language.model import Call, Setting

_ROUND = Setting("Widths are rounded to the nearest multiple of this.", default="`1`", in_patterns=False)
PARENT = Call("The parent's own sub-block, untouched: no job, score 0.")
LINEAR = Call("One hidden x hidden matrix in place of the sub-block.")
NOOP = Call("The sub-block is left out, with its norm: it adds nothing to the residual stream.")
GQA = Call(
    "Grouped-query attention with fewer key/value heads, or a window.",
    {
        "kv_heads": Setting(
            "Key/value heads: divisors of the parent's. `8 | 4 | 2 | 1` is one alternative each."
        ),
        "window": Setting("Tokens attended to at most: `full`, or `8Ki`.", words=("full",), default="`full`"),
        "sinks": Setting(
            "How many of a window's tokens are the sequence's first: 0 unless said; 4 does well.",
            default="`0`",
        ),
    },
    positional=1,
)
MLP = Call(
    "The parent's FFN with fewer intermediate channels.",
    {"width": Setting("Channels, or a share of the parent's: `100% | 75% | 50%`."), "round": _ROUND},
    positional=1,
)
MOE = Call(
    "A mixture of experts made of the parent's channels.",
    {
        "experts": Setting("How many experts."),
        "top_k": Setting("Experts that are active for a token."),
        "width": Setting("Channels of an expert; without it the parent's are shared out."),
        "round": _ROUND,
    },
    positional=2,
)
ATTENTION = {"parent": PARENT, "gqa": GQA, "linear": LINEAR, "noop": NOOP}
FFN = {"parent": PARENT, "mlp": MLP, "moe": MOE, "linear": LINEAR, "noop": NOOP}
ALTERNATIVES = {"attention": ATTENTION, "ffn": FFN}
"""Sub-block -> its alternatives."""

INITIALISERS = {
    "gqa": ("least_squares", "mean_pool"),
    "mlp": ("least_squares", "channel_contribution"),
    "linear": ("least_squares", "product"),
}
"""Alternative -> the ways to make its weights, the default first."""


_BOTH = {**FFN, **ATTENTION}
_CHOICES = {name: Setting("", words=tuple(known), calls=known) for name, known in ALTERNATIVES.items()}
_EITHER = Setting("", words=tuple(_BOTH), calls=_BOTH)


def alternatives_of(sub_block: str) -> Setting:
    """Return what a choice of a sub-block takes; of both where the name is neither's."""
    return _CHOICES.get(sub_block, _EITHER)


def pattern_fields(name: str) -> tuple[str, ...]:
    """Return the arguments of an alternative that a pattern can test."""
    call = FFN.get(name) or ATTENTION[name]
    return tuple(name for name, setting in call.arguments.items() if setting.in_patterns)
