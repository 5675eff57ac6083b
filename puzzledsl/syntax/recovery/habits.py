"""Constructs of other languages at an unexpected token, and the form that they have here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from puzzledsl.base.diagnostics import Edit, Fix, Span
from puzzledsl.base.records import record
from puzzledsl.base.units import UNITS, unit_in_words, with_unit
from puzzledsl.language.words import DECLARATIONS
from puzzledsl.syntax.errors import UnexpectedToken
from puzzledsl.syntax.tokens import Token, after, span_of

Help = tuple[str, tuple[Fix, ...]]


@record
class Place:
    """An unexpected token, some tokens in front of it and behind it, and the kinds that could stand there.

    `before` is the last of those in front that is no newline.
    """

    token: Token
    before: Token | None
    front: Sequence[Token]
    behind: Sequence[Token]
    expected: set[str]
    file: str

    @property
    def where(self) -> Span:
        """The span of the token."""
        return span_of(self.token, self.file)

    def replace(self, text: str) -> tuple[Fix, ...]:
        """Return the fix that replaces the token."""
        return (Fix.replace(self.where, text),)

    def statement(self) -> Sequence[Token]:
        """Return the tokens of the statement that stand in front."""
        ends = [i for i, token in enumerate(self.front) if token.type in ("_NL", "LBRACE", "RBRACE")]
        return self.front[ends[-1] + 1 :] if ends else self.front

    def is_behind(self, kind: str) -> bool:
        """True where the token before is of a kind."""
        return self.before is not None and self.before.type == kind

    def touches(self) -> bool:
        """True where no blank separates the token from the one before."""
        return self.before is not None and self.before.end_pos == self.token.start_pos


def habit(place: Place) -> Help | None:
    """Return the help for a construct of another language, with fixes where they are certain; None for any other slip."""
    return next((found for form in _FORMS if (found := form(place)) is not None), None)


def _unit(place: Place) -> Help | None:
    """`8 seconds`, `5000 tokens/s`, `30 s`."""
    before, token = place.before, place.token
    if before is None or before.type != "QUANTITY" or not before[-1:].isdigit() or token.type != "NAME":
        return None
    if token in UNITS:
        whole = span_of(before, place.file).to(place.where)
        return f"no blank before a unit: write `{before}{token}`", (Fix.replace(whole, f"{before}{token}"),)
    rate = len(place.behind) > 1 and (place.behind[0].type == "SLASH" or place.behind[0] == "per")
    last = place.behind[1] if rate else token
    text = f"{token}/{last}" if rate else str(token)
    unit = unit_in_words(text)
    if unit is None:
        return None
    meant = with_unit(str(before), unit)
    return f"write `{meant}`", (
        Fix.replace(span_of(before, place.file).to(span_of(last, place.file)), meant),
    )


def _otherwise_if(place: Place) -> Help | None:
    if place.token in ("elif", "elsif", "elseif") and "ELSE" in place.expected:
        return "a second condition follows `else`: write `else if`", place.replace("else if")
    return None


def _statement_if(place: Place) -> Help | None:
    """`if … { require … }` and `if … then require …`."""
    if place.token.type != "IF" or not place.expected & {"REQUIRE", "USE"}:
        return None
    if "REQUIRE" in place.expected:
        return (
            "a requirement with a condition is `require CONDITION implies REQUIREMENT`; "
            "`if` only chooses between two values: `let most = if CONDITION then 8 else 4`",
            (),
        )
    return "`if` only chooses between two values: `let most = if CONDITION then 8 else 4`", ()


def _trailing_if(place: Place) -> Help | None:
    """`a if c else b`."""
    if place.token.type == "IF" and "CMP" in place.expected and any(t.type == "ELSE" for t in place.behind):
        return "the condition comes first: `if CONDITION then A else B`", ()
    return None


def _format_string(place: Place) -> Help | None:
    """`f"kl-{run}.csv"`."""
    before = place.before
    if place.token.type != "STRING" or before is None or before not in ("f", "F") or not place.touches():
        return None
    parts = re.split(r"\{(\w+)\}", place.token[1:-1])
    if "{" in "".join(parts[::2]):
        return 'texts are joined by `+`: `"kl-" + run + ".csv"`', ()
    written = [name if i % 2 else f'"{name}"' for i, name in enumerate(parts) if name]
    joined = " + ".join(written) or '""'
    fix = Fix.replace(span_of(before, place.file).to(place.where), joined)
    return f"texts are joined by `+`: write `{joined}`", (fix,)


def _all_layers(place: Place) -> Help | None:
    """`layers[*]`."""
    if place.token.type == "STAR" and place.is_behind("LSQB") and "RANGE" in place.expected:
        return "a range without ends holds all layers: write `layers[..]`", place.replace("..")
    return None


def _called_layers(place: Place) -> Help | None:
    """`layers(2..9).attention -= noop`."""
    if place.token.type != "LPAR" or place.before != "layers":
        return None
    depth = 1
    for token in place.behind:
        depth += (token.type == "LPAR") - (token.type == "RPAR")
        if depth == 0:
            edits = Edit(place.where, "["), Edit(span_of(token, place.file), "]")
            return "layers are selected in square brackets: `layers[2..9]`", (Fix("write `[…]`", edits),)
    return "layers are selected in square brackets: `layers[2..9]`", ()


def _number(place: Place) -> Help | None:
    digits = place.behind[0] if place.behind else None
    if place.token.type != "DOT" or "QUANTITY" not in place.expected or digits is None:
        return None
    if digits.type != "QUANTITY" or digits.start_pos != place.token.end_pos:
        return None
    return f"a number begins with a digit: `0.{digits}`", (Fix.insert(place.where, "0"),)


def _dots(place: Place) -> Help | None:
    """`layers[2...9]`."""
    before = place.before
    if place.token.type == "DOT" and before is not None and before.type == "RANGE" and place.touches():
        whole = span_of(before, place.file).to(place.where)
        return "a range has two dots: write `..`", (Fix.replace(whole, ".."),)
    return None


def _equals(place: Place) -> Help | None:
    if place.token == "==" and "EQUAL" in place.expected:
        return "one `=` sets, two compare: write `=`", place.replace("=")
    if place.token.type != "EQUAL" or "CMP" not in place.expected:
        return None
    statement = place.statement()
    if "EQUAL" not in [token.type for token in statement]:
        return "one `=` sets, two compare: write `==`", place.replace("==")
    if len(statement) == 4 and statement[0] in DECLARATIONS and statement[2].type == "EQUAL":
        return _equals_for_of(statement, place.file)
    return "", ()


def _equals_for_of(head: Sequence[Token], file: str) -> Help:
    """`score kl = pieces = replace_one(…)`."""
    from puzzledsl.language.kinds import KINDS  # only a mistake needs the alternatives that it imports

    kind, name, sign, target = head
    preposition = KINDS[kind].preposition
    if not preposition:
        return "", ()
    help = (
        f"what it builds on stands behind `{preposition}`: write `{kind} {name} {preposition} {target} = …`"
    )
    return help, (Fix.replace(span_of(sign, file), preposition),)


def _colon(place: Place) -> Help | None:
    if place.token.type != "COLON":
        return None
    if "EQUAL" in place.expected:
        gap = place.where if place.before is None else after(place.before, place.file).start.to(place.where)
        return "a body is written with `=`, named arguments with `:`", (Fix.replace(gap, " =", "write `=`"),)
    if "RSQB" in place.expected or place.is_behind("LSQB"):
        return "layers are selected with `..`, both ends included: `layers[2..9]`, `layers[0.. step 2]`", ()
    return None


def _yaml_list(place: Place) -> Help | None:
    """`attention:` and lines below it that begin with `-`."""
    if place.token.type != "COLON" or "EQUAL" not in place.expected or not place.behind:
        return None
    dash, end = place.behind[0], place.token
    if dash != "-" or dash.line == place.token.line:
        return None
    options: list[str] = []
    for token in place.behind:
        if token.type in ("_NL", "RBRACE"):
            break
        if token == "-" and token.column == dash.column:
            options.append("")
        else:
            gap = " " if token.start_pos > end.end_pos and options[-1] else ""
            options[-1] += gap + token
        end = token
    meant = " | ".join(options)
    start = place.where if place.before is None else after(place.before, place.file).start
    fix = Fix.replace(start.to(span_of(end, place.file)), f" = {meant}", f"write `= {meant}`")
    return f"alternatives are separated by `|`: write `{place.before} = {meant}`", (fix,) if all(
        options
    ) else ()


def _arrow(place: Place) -> Help | None:
    """`128 to 1024`."""
    if place.token == "to" and "ARROW" in place.expected:
        return "prompt and output tokens are joined by `->`: write `->`", place.replace("->")
    return None


def _next_statement(place: Place) -> Help | None:
    """`minimize kl require …` on one line."""
    if place.token.type not in ("REQUIRE", "PREFER", "MINIMIZE", "MAXIMIZE") or place.before is None:
        return None
    if "COMMA" not in place.expected or "RBRACE" not in place.expected:
        return None
    gap = after(place.before, place.file).start.to(place.where.start)
    return "statements on one line are separated by `,`", (Fix.replace(gap, ", ", "write `,`"),)


def _is_layer(place: Place) -> Help | None:
    """`layers[1] is layers[0]`."""
    front = [token for token in place.front if token.type != "_NL"]
    if place.token.type != "LSQB" or place.before != "layers" or len(front) < 2 or front[-2].type != "IS":
        return None
    fix = Fix.replace(span_of(front[-2], place.file), "same as")
    return "two layers are compared with `same as`: `layers[3] same as layers[2]`", (fix,)


def _comparison(place: Place) -> Help | None:
    if place.token.type == "CMP" and place.is_behind("CMP"):
        return "comparisons are `==` `!=` `<=` `>=` `<` `>`", ()
    return None


def _same_as(place: Place) -> Help | None:
    token, before = place.token, place.before
    if token.type == "SAME_AS" and before is not None and before.type == "IS":
        whole = span_of(before, place.file).to(place.where)
        return "`same as` needs no `is`: write `same as`", (Fix.replace(whole, "same as"),)
    if token == "same" and "SAME_AS" in place.expected:
        return "the operator has two words: write `same as`", place.replace("same as")
    if token.type == "NOT" and "SAME_AS" in place.expected:
        return (
            "`not` stands in front of a whole statement, or behind `is`: `not a same as b`, `a is not noop`",
            (),
        )
    return None


def _second_bound(place: Place) -> Help | None:
    """`require a <= 1, b <= 2`."""
    if place.token.type != "CMP" or "EQUAL" not in place.expected:
        return None
    comma, keyword = _listed_behind(place)
    if comma is None or keyword != "require":
        return None
    fix = Fix.replace(span_of(comma, place.file), " and", "write `and`")
    return "bounds of one requirement are joined by `and`; behind a comma, write `require` again", (fix,)


def second_goal(place: Place) -> UnexpectedToken | None:
    """Return the diagnostic for `params` of `minimize kl, params`; None for anything else."""
    if place.token.type not in ("_NL", "RBRACE", "COMMA") or "EQUAL" not in place.expected:
        return None
    comma, keyword = _listed_behind(place)
    if comma is None or keyword not in ("minimize", "maximize"):
        return None
    goal = [token for token in place.front if token.start_pos > comma.start_pos]
    text = "".join(goal)
    where = span_of(goal[0], place.file).to(span_of(goal[-1], place.file))
    second = f"prefer {'-' if keyword == 'minimize' else ''}{text}"
    help = (
        f"a search has one goal: bound the other with `require {text} {'<=' if keyword == 'minimize' else '>='} …`, "
        f"or put it second with `{second}`"
    )
    fix = Fix.replace(where, second, safe=False)
    return UnexpectedToken(where, "a second goal", found=f"`{text}`", help=help, fixes=[fix])


def _listed_behind(place: Place) -> tuple[Token | None, str]:
    """Return the comma before a path that begins this statement, and the first word of the statement before the comma."""
    at = len(place.front) - 1
    while at >= 0 and place.front[at].type in ("NAME", "DOT"):
        at -= 1
    if at < 0 or place.front[at].type != "COMMA":
        return None, ""
    comma = place.front[at]
    while at > 0 and place.front[at - 1].type not in ("_NL", "LBRACE", "RBRACE"):
        at -= 1
        if place.front[at].type in ("MINIMIZE", "MAXIMIZE", "REQUIRE"):
            return comma, str(place.front[at])
    return None, ""


def _power(place: Place) -> Help | None:
    if place.token.type == "STAR" and place.is_behind("STAR"):
        return "there is no power operator: multiply, or write the number out", ()
    return None


_FORMS: tuple[Callable[[Place], Help | None], ...] = (
    _unit,
    _dots,
    _number,
    _equals,
    _yaml_list,
    _colon,
    _arrow,
    _next_statement,
    _is_layer,
    _comparison,
    _same_as,
    _second_bound,
    _power,
    _otherwise_if,
    _statement_if,
    _trailing_if,
    _format_string,
    _all_layers,
    _called_layers,
)
