"""Single-token repair of a syntax error, accepted if the rest of the statement then parses.

It is tried before recovery discards text, because losing less text causes fewer follow-up errors. Repairs: drop a
doubled token, insert a missing `=` or name, replace one sign or keyword by another.
"""

from __future__ import annotations

from puzzledsl.base.records import record
from puzzledsl.base.suggest import closest
from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.machine import Machine
from puzzledsl.syntax.tokens import Token, virtual

MAX_AHEAD = 60
"""Number of following tokens of the statement that a repair is checked against; later tokens are not checked."""

_ENDS = {"_NL", "LBRACE", "RBRACE"}
_SIGNS = {
    "EQUAL": "=",
    "COLON": ":",
    "COMMA": ",",
    "CMP": "<=",
    "ARROW": "->",
    "RANGE": "..",
    "VBAR": "|",
    "EXTEND": "|=",
    "REMOVE": "-=",
    "KEEP": "&=",
    "ADD": "+",
    "STAR": "*",
    "SLASH": "/",
    "DOT": ".",
}


@record
class Repair:
    """Remove the last `undo` tokens taken, insert `insert`, and skip the next `skip` tokens."""

    undo: int = 0
    insert: tuple[Token, ...] = ()
    skip: int = 0


def repair(machine: Machine, tokens: list[Token], index: int, last: Token | None) -> Repair | None:
    """Return the repair that makes the statement of the unacceptable `tokens[index]` parse to its end; None if none does.

    `last` is the token that the machine took last.
    """
    token = tokens[index]
    rest = _rest(tokens, index)
    skipped = bool(rest[1:]) and machine.accepts(*rest[1:])
    undone = last is not None and _can_undo(machine, rest, last)
    if last is not None and last == token and skipped:
        return Repair(skip=1)
    if undone and index > 1 and tokens[index - 2] == last:
        return Repair(undo=1)
    for kind in _missing(tokens, index):
        if machine.accepts(kind, *rest):
            return Repair(insert=(virtual(kind, _SIGNS.get(kind, kind.lower()), last or token),))
    for kind, text in _instead(token):
        if rest[1:] and machine.accepts(kind, *rest[1:]):
            return Repair(insert=(token.like(kind, text),), skip=1)
    unnamed = Repair(insert=(virtual("NAME", "", last or token),)) if machine.accepts("NAME", *rest) else None
    if token.type == "_NL" and unnamed:
        return unnamed
    if undone:
        return Repair(undo=1)
    if token.type == "LBRACE" and machine.accepts("_NL", "NAME", *rest):  # a section without its name
        near = last or token
        return Repair(insert=(virtual("_NL", "\n", near), virtual("NAME", "", near)))
    if unnamed:
        return unnamed
    ends = token.type == "_NL" or (token.type == "RBRACE" and rest[1] in ("_NL", "COMMA", "RBRACE"))
    return Repair(skip=1) if skipped and not ends else None


def _rest(tokens: list[Token], index: int) -> list[str]:
    """Return the kinds of the tokens from `index` to the end of the statement."""
    kinds: list[str] = []
    for token in tokens[index : index + MAX_AHEAD]:
        kinds.append(token.type)
        if token.type == "_NL" or (token.type in _ENDS and len(kinds) > 1):
            break
    return kinds


def _can_undo(machine: Machine, rest: list[str], last: Token) -> bool:
    if last.type in ("_NL", "RBRACE", "ERROR") or machine.depth < 2:
        return False
    return machine.accepts(*rest, depth=machine.depth - 1)


def _missing(tokens: list[Token], index: int) -> list[str]:
    """Return the signs that may be missing before a token, most likely first."""
    named = index > 1 and tokens[index - 1].type == "NAME" and tokens[index - 2].type in ("LPAR", "COMMA")
    first = "COLON" if named and tokens[index].type != "NAME" else "COMMA"
    on = index > 1 and tokens[index - 2] == "scenario"
    return ["EQUAL", first, "COMMA", "COLON", "ARROW", "ON" if on else "OF"]


def _instead(token: Token) -> list[tuple[str, str]]:
    """Return the tokens that may be meant instead of a token, as (kind, text), most likely first."""
    if token.type in _SIGNS:
        return [(kind, text) for kind, text in _SIGNS.items() if kind != token.type]
    words = [word for word in sorted(KEYWORDS) if word != token]
    if token in KEYWORDS:
        return [(word.upper(), word) for word in words]
    near = closest(token, words) if token.type == "NAME" else None
    found = [(near.upper(), str(near))] if near is not None else []
    return [*found, ("OF", "of"), ("ON", "on")] if token.type == "NAME" else []
