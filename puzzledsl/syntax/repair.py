"""Repairs of a syntax error, accepted if the rest of the statement then parses: slips of one token, and `head:` for `head {`.

They are tried before recovery discards text, because losing less text causes fewer follow-up errors.
"""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.base.diagnostics import Label
from puzzledsl.base.frozen import record
from puzzledsl.language.words import DECLARATIONS
from puzzledsl.syntax import errors
from puzzledsl.syntax.machine import Machine
from puzzledsl.syntax.tokens import Token, span_of, virtual

MAX_AHEAD = 60
"""Number of following tokens of the statement that a repair is checked against; later tokens are not checked."""

_ENDS = {"_NL", "LBRACE", "RBRACE"}


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
    rest: list[str] = []
    for each in tokens[index : index + MAX_AHEAD]:
        rest.append(each.type)
        if each.type == "_NL" or (each.type in _ENDS and len(rest) > 1):
            break
    can_undo = last is not None and last.type not in ("_NL", "RBRACE", "ERROR") and machine.depth >= 2
    for way in _ways(tokens, index, last or tokens[index], rest[1:2]):
        kinds = [*(token.type for token in way.insert), *rest[way.skip :]]
        possible = can_undo if way.undo else way.skip < len(rest)
        if possible and machine.accepts(*kinds, depth=machine.depth - way.undo):
            return way
    return None


def _ways(tokens: list[Token], index: int, last: Token, following: list[str]) -> Iterator[Repair]:
    """Yield repairs, most likely first: drop a doubled token, insert a sign or a name, drop a token."""
    token, name = tokens[index], virtual("NAME", "", last)
    if last is not token and last == token:
        yield Repair(skip=1)
    if index > 1 and tokens[index - 2] == last:
        yield Repair(undo=1)
    for kind, text in (("EQUAL", "="), ("COMMA", ","), ("COLON", ":")):
        yield Repair(insert=(virtual(kind, text, last),))
    if token.type == "_NL":
        yield Repair(insert=(name,))
    yield Repair(undo=1)
    yield Repair(insert=(name,))
    if token.type != "_NL" and not (token.type == "RBRACE" and following[0] in ("_NL", "COMMA", "RBRACE")):
        yield Repair(skip=1)


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
