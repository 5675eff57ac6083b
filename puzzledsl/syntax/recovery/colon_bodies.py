"""Bodies as in YAML or Python: `bld b of w:` and indented lines below it. One mistake, however long the body is."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Label
from puzzledsl.base.records import record
from puzzledsl.language.words import DECLARATIONS
from puzzledsl.syntax import errors
from puzzledsl.syntax.tokens import Token, span_of


@record
class ColonBody:
    """A body behind a colon. `stop` is the index of the newline behind it."""

    error: errors.MissingBrace
    stop: int
    lines: range


def colon_body(tokens: list[Token], index: int, file: str) -> ColonBody | None:
    """Return the body that the colon at `index` opens; None for any other colon."""
    start = _line_start(tokens, index)
    head = tokens[start:index]
    if not head or head[0].column != 1 or head[0] not in DECLARATIONS:
        return None
    if any(token.type in ("EQUAL", "LBRACE", "LPAR") for token in head):
        return None
    stop = next((i for i in range(index, len(tokens)) if _ends(tokens, i)), len(tokens) - 1)
    colon, last = tokens[index], tokens[stop - 1]
    if last.line == colon.line and len(head) > 1 and _is_value(head[0], tokens[index + 1 : index + 3]):
        return None
    where = span_of(colon, file)
    below = [] if last is colon else [Label(span_of(last, file), "up to here")]
    form = _form(head)
    what = "a body stands in braces, and its settings take `=`" if form.endswith("}") else "it is written"
    help = f"{what}: `{form}`"
    error = errors.MissingBrace(where, "the body begins here", secondary=below, help=help)
    return ColonBody(error, stop, range(colon.line, last.end_line + 1))


def _is_value(kind: Token, behind: list[Token]) -> bool:
    """True where `=` was meant: `parent p: hf("…")`. A setting behind the colon, and a bare line end, are of a body."""
    from puzzledsl.language.kinds import KINDS  # only a mistake needs the alternatives that it imports

    first, second = (token.type for token in behind) if len(behind) == 2 else ("_NL", "_NL")
    return KINDS[kind].value is not None and first != "_NL" and second not in ("COLON", "EQUAL")


def _line_start(tokens: list[Token], index: int) -> int:
    while index and tokens[index - 1].type != "_NL":
        index -= 1
    return index


def _ends(tokens: list[Token], index: int) -> bool:
    """True for a newline before a token at the left margin."""
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    return tokens[index].type == "_NL" and (following is None or following.column == 1)


def _form(head: list[Token]) -> str:
    """Return the head with a body of its kind behind it, or the whole form of a kind that has none."""
    from puzzledsl.language.kinds import KINDS  # only a mistake needs the alternatives that it imports

    form = KINDS[head[0]].form
    body = form.partition(" {")[2]
    return f"{' '.join(head)} {{{body}" if body and len(head) > 1 else form
