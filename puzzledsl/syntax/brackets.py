"""A bracket closed by another kind: which of the two is the slip, judged by what stands before and between them."""

from __future__ import annotations

from collections.abc import Sequence

from puzzledsl.base.diagnostics import Fix, Label
from puzzledsl.language.words import FUNCTIONS
from puzzledsl.syntax import errors
from puzzledsl.syntax.tokens import Token, span_of

CLOSER = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
OPENER = {"RPAR": ("LPAR", "("), "RSQB": ("LSQB", "[")}

_OF_CALLS = {"COLON", "ARROW", "EQUAL"}
"""Tokens that stand between round brackets alone."""


def opener_is_wrong(out: Sequence[Token], at: int) -> tuple[bool, bool]:
    """Return whether the opener `out[at]` is the slip, and whether that is certain. `out` ends before the closer."""
    opener, inside = out[at], _own(out[at + 1 :])
    before = out[at - 1] if at and out[at - 1].end_pos == opener.start_pos else None
    square = opener.type == "LSQB"
    if _OF_CALLS & inside or (before is not None and _is_called(before)):
        return square, True
    if before is not None and before == "layers":
        return not square, True
    if before is None or before.type not in ("NAME", "RPAR", "RSQB"):
        return not square and "COMMA" in inside, not square or "COMMA" in inside
    return False, False


def mismatched(
    opener: Token, closer: Token, wrong: bool, certain: bool, file: str
) -> errors.MismatchedCloser:
    """Return the diagnostic for an opener and a closer of two kinds. `wrong`: the opener is the slip."""
    slip, other = (opener, closer) if wrong else (closer, opener)
    wanted = (OPENER if wrong else CLOSER)[other.type][1]
    label = Label(span_of(other, file), "closed here" if wrong else "opened here")
    fixes = [Fix.replace(span_of(slip, file), wanted, safe=certain)]
    return errors.MismatchedCloser(
        span_of(slip, file),
        opener=str(opener),
        closer=str(closer),
        wanted=wanted,
        secondary=[label],
        fixes=fixes,
    )


def _own(tokens: Sequence[Token]) -> set[str]:
    """Return the kinds of tokens that stand in no inner bracket."""
    depth, kinds = 0, set()
    for token in tokens:
        depth += token.type in CLOSER
        if depth == 0:
            kinds.add(token.type)
        depth -= token.type in OPENER
    return kinds


def _is_called(name: Token) -> bool:
    from puzzledsl.language.calls import CONSTRUCTORS  # only a mistake needs the alternatives that it imports

    return name in FUNCTIONS or name in CONSTRUCTORS
