"""Repairs of a syntax error, accepted if the rest of the statement then parses: slips of one token, and `head:` for `head {`.

They are tried before recovery discards text, because losing less text causes fewer follow-up errors.
"""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.base.diagnostics import Label
from puzzledsl.base.frozen import record
from puzzledsl.base.suggest import closest
from puzzledsl.language.words import DECLARATIONS, KEYWORDS
from puzzledsl.syntax import errors
from puzzledsl.syntax.machine import Machine
from puzzledsl.syntax.tokens import Token, span_of, virtual

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

    `last` is the token that the machine took last. The repairs: drop a doubled token, insert a missing sign or name, replace
    one sign or keyword by another, drop the token before or this one.
    """
    token, near = tokens[index], last or tokens[index]
    rest: list[str] = []
    for each in tokens[index : index + MAX_AHEAD]:
        rest.append(each.type)
        if each.type == "_NL" or (each.type in _ENDS and len(rest) > 1):
            break
    skipped = bool(rest[1:]) and machine.accepts(*rest[1:])
    can_undo = last is not None and last.type not in ("_NL", "RBRACE", "ERROR") and machine.depth >= 2
    undone = can_undo and machine.accepts(*rest, depth=machine.depth - 1)
    if last is not None and last == token and skipped:
        return Repair(skip=1)
    if undone and index > 1 and tokens[index - 2] == last:
        return Repair(undo=1)
    for kind in _missing(tokens, index):
        if machine.accepts(kind, *rest):
            return Repair(insert=(virtual(kind, _SIGNS.get(kind, kind.lower()), near),))
    for kind, text in _instead(token):
        if rest[1:] and machine.accepts(kind, *rest[1:]):
            return Repair(insert=(token.like(kind, text),), skip=1)
    name, unnamed = virtual("NAME", "", near), machine.accepts("NAME", *rest)
    if token.type == "_NL" and unnamed:
        return Repair(insert=(name,))
    if undone:
        return Repair(undo=1)
    if token.type == "LBRACE" and machine.accepts("_NL", "NAME", *rest):  # a section without its name
        return Repair(insert=(virtual("_NL", "\n", near), name))
    if unnamed:
        return Repair(insert=(name,))
    ends = token.type == "_NL" or (token.type == "RBRACE" and rest[1] in ("_NL", "COMMA", "RBRACE"))
    return Repair(skip=1) if skipped and not ends else None


def _missing(tokens: list[Token], index: int) -> list[str]:
    """Return the signs that may be missing before a token, most likely first."""
    named = index > 1 and tokens[index - 1].type == "NAME" and tokens[index - 2].type in ("LPAR", "COMMA")
    first = "COLON" if named and tokens[index].type != "NAME" else "COMMA"
    on = index > 1 and tokens[index - 2] == "scenario"
    return ["EQUAL", first, "COMMA", "COLON", "ARROW", "ON" if on else "OF"]


def _instead(token: Token) -> Iterator[tuple[str, str]]:
    """Yield the tokens that may be meant instead of a token, as (kind, text), most likely first."""
    if token.type in _SIGNS:
        yield from ((kind, text) for kind, text in _SIGNS.items() if kind != token.type)
        return
    words = [word for word in sorted(KEYWORDS) if word != token]
    if token in KEYWORDS:
        yield from ((word.upper(), word) for word in words)
    elif token.type == "NAME":
        if (near := closest(token, words)) is not None:
            yield near.upper(), near
        yield from (("OF", "of"), ("ON", "on"))


@record
class ColonBody:
    """A body behind a colon: one mistake, however long it is. `stop` is the index of the newline behind it."""

    error: errors.MissingBrace
    stop: int
    lines: range


def colon_body(tokens: list[Token], index: int, file: str) -> ColonBody | None:
    """Return the body that the colon at `index` opens, as in `bld b of w:`; None for any other colon."""
    start = index
    while start and tokens[start - 1].type != "_NL":
        start -= 1
    head = tokens[start:index]
    if not head or head[0].column != 1 or head[0] not in DECLARATIONS:
        return None
    if any(token.type in ("EQUAL", "LBRACE", "LPAR") for token in head):
        return None
    from puzzledsl.language.kinds import KINDS  # only a mistake needs the alternatives that it imports

    kind = KINDS[head[0]]
    margins = (
        i for i in range(index, len(tokens) - 1) if tokens[i].type == "_NL" and tokens[i + 1].column == 1
    )
    stop = next(margins, len(tokens) - 1)
    colon, last = tokens[index], tokens[stop - 1]
    behind = [token.type for token in tokens[index + 1 : index + 3]]
    holds = len(behind) == 2 and behind[0] != "_NL" and behind[1] not in ("COLON", "EQUAL")
    if holds and last.line == colon.line and len(head) > 1 and kind.value is not None:
        return None  # `=` was meant: `parent p: hf("…")`
    body = kind.form.partition(" {")[2]
    form = f"{' '.join(head)} {{{body}" if body and len(head) > 1 else kind.form
    help = "a body stands in braces, and its settings take `=`" if form.endswith("}") else "it is written"
    below = [] if last is colon else [Label(span_of(last, file), "up to here")]
    where = span_of(colon, file)
    error = errors.MissingBrace(where, "the body begins here", secondary=below, help=f"{help}: `{form}`")
    return ColonBody(error, stop, range(colon.line, last.end_line + 1))
