"""Diagnostics of an unexpected token: the token, what could stand there, and a fix for spellings of other languages."""

from collections.abc import Sequence

from puzzledsl.base.diagnostics import Diagnostic, Edit, Fix, Label, Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import listed
from puzzledsl.base.units import UNIT_NAMES, UNITS, unit_in_words, with_unit
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import DECLARATIONS, KEYWORDS
from puzzledsl.syntax import errors
from puzzledsl.syntax.tokens import Token, after, span_of

_BEGINS_VALUE = {"NAME", "QUANTITY", "STRING", "LPAR", "LSQB", "ADD", "NOT", "IF", "VBAR"}
_OPERATORS = set("VBAR AND OR IMPLIES ADD STAR SLASH MOD CMP SAME_AS ARROW RANGE IS IN DOT LSQB LPAR".split())
_ENDS_STATEMENT = {"_NL", "COMMA", "RBRACE"}
_SHOWN = {
    "EQUAL": "`=`",
    "LBRACE": "`{`",
    "COLON": "`:`",
    "STRING": "a string",
    "QUANTITY": "a number",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COMMA": "`,`",
    "RBRACE": "`}`",
    "CMP": "a comparison",
    "_NL": "the end of the line",
}
Help = tuple[str, tuple[Fix, ...]]


class Place(Record):
    """An unexpected token, those around it, and the kinds `expected`. `before`: the last in front that is no newline."""

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

    @property
    def gap(self) -> Span:
        """The span from the end of the token before to the end of this one."""
        return self.where if self.before is None else after(self.before, self.file).start.to(self.where)

    def fix(self, first: Token | None, text: str) -> tuple[Fix, ...]:
        """Return the fix, as a tuple, that replaces everything from `first` (None: the token) to the token by `text`."""
        return (Fix.replace(self.where if first is None else span_of(first, self.file).to(self.where), text),)

    def statement(self) -> Sequence[Token]:
        """Return the tokens in front of the unexpected one that belong to the same statement."""
        ends = [i for i, token in enumerate(self.front) if token.type in ("_NL", "LBRACE", "RBRACE")]
        return self.front[ends[-1] + 1 :] if ends else self.front

    @property
    def kind_before(self) -> str:
        """The kind of the token before; empty if there is none."""
        return "" if self.before is None else self.before.type

    def touches(self) -> bool:
        """Return True if no blank separates the token from the one before."""
        return self.before is not None and self.before.end_pos == self.token.start_pos


def unexpected(place: Place) -> Diagnostic:
    """Return the diagnostic for a token that cannot stand where it is."""
    token, before, expected, file = place.token, place.before, place.expected, place.file
    if (goal := _second_goal(place)) is not None:
        return goal
    if token.lower() in KEYWORDS and "NAME" in expected and not expected & {"QUANTITY", "USE", "REQUIRE"}:
        return errors.ReservedWord(place.where, word=str(token))
    where = after(before, file) if token.type == "_NL" and before is not None else place.where
    help, fixes = next((known for form in _FORMS if (known := form(place)) is not None), ("", ()))
    label = _label(expected, place.kind_before)
    return errors.UnexpectedToken(where, label, found=found(token), help=help, fixes=fixes)


def found(token: Token) -> str:
    """Return a token for a message: its kind and its text, such as name `x`; of a string or newline the kind alone."""
    if token.type in ("STRING", "_NL"):
        return "string" if token.type == "STRING" else "end of line"
    kind = {"NAME": "name ", "QUANTITY": "number "}.get(token.type, "keyword " if token.isalpha() else "")
    return f"{kind}`{token if len(token) <= 30 else token[:29] + '…'}`"


def _label(expected: set[str], kind_before: str) -> str:
    rest, words = set(expected), list[str]()
    if "USE" in rest:
        return "expected a declaration"
    if "REQUIRE" in rest:
        return "expected a statement" + (" or `}`" if "RBRACE" in rest else "")
    if {"NAME", "QUANTITY", "LPAR"} <= rest:
        words.append("a value")
        rest -= _BEGINS_VALUE
    elif "NAME" in rest:
        words.append("a name")
        rest.discard("NAME")
    operator = bool(rest & {"ADD", "CMP", "STAR"})
    if operator or "EQUAL" in rest:
        rest -= _OPERATORS
    if "EQUAL" in rest:
        rest -= _ENDS_STATEMENT
    if rest >= _ENDS_STATEMENT or ("_NL" in rest and operator):
        rest -= _ENDS_STATEMENT
        words.append("the end of the statement")
    words += [shown for kind, shown in _SHOWN.items() if kind in rest]
    if "EQUAL" not in rest and len(words) < 2:
        words += [f"`{kind.lower()}`" for kind in sorted(rest) if kind.isalpha() and kind.lower() in KEYWORDS]
    else:
        words += [f"`{kind.lower()}`" for kind in ("OF", "ON") if kind in rest]
    if operator:
        words.append("an operator")
    tail = " after the name" if kind_before == "NAME" and "EQUAL" in rest else ""
    return f"expected {listed(words, 'or')}{tail}" if words else "this cannot stand here"


_INSTEAD = {
    "==": ("EQUAL", "one `=` sets, two compare: write `=`", "="),
    "to": ("ARROW", "prompt and output tokens are joined by `->`: write `->`", "->"),
    "same": ("SAME_AS", "the operator has two words: write `same as`", "same as"),
    **dict.fromkeys(
        ("elif", "elsif", "elseif"), ("ELSE", "a second condition follows `else`: write `else if`", "else if")
    ),
}
"""Misused word -> the kind of token to be expected in its place, the help, and the text that is meant."""
_BOTH = {
    ("CMP", "CMP"): ("comparisons are `==` `!=` `<=` `>=` `<` `>`", None),
    ("NAME", "STRING"): ("texts are joined by `+`", None),
    ("STAR", "STAR"): ("there is no power operator: multiply, or write the number out", None),
    ("IS", "SAME_AS"): ("`same as` needs no `is`: write `same as`", "same as"),
}
"""Kinds of two tokens in a row -> the help, and the text that is meant instead of both (None: not certain)."""
_VALUE_IF = "`if` only chooses between two values: `let most = if CONDITION then 8 else 4`"
_LAYERS_OF = "layers are selected in square brackets: `layers[2..9]`"


def _word(place: Place) -> Help | None:
    """Return help and fixes for words of _INSTEAD and pairs of _BOTH, such as `elif` and `a is same as b`; None for others."""
    kind, help, meant = _INSTEAD.get(place.token, ("", "", ""))
    if kind in place.expected:
        return help, place.fix(None, meant)
    if (kinds := (place.kind_before, place.token.type)) not in _BOTH:
        return None
    help, both = _BOTH[kinds]
    return help, () if both is None else place.fix(place.before, both)


def _number(place: Place) -> Help | None:
    """Return help and fixes for `8 seconds`, `5000 tokens/s`, `30 s`, `10M tokens` and `.5`; None for others."""
    before, token, behind = place.before, place.token, place.behind
    if token.type == "DOT" and "QUANTITY" in place.expected and behind:
        touches = behind[0].type == "QUANTITY" and behind[0].start_pos == token.end_pos
        help = f"a number begins with a digit: `0.{behind[0]}`"
        return (help, (Fix.insert(place.where, "0"),)) if touches else None
    if before is None or before.type != "QUANTITY" or token.type != "NAME":
        return None
    if not before[-1:].isdigit():
        counted = f"a count of tokens has no unit: write `{before}`", place.fix(before, str(before))
        return counted if UNIT_NAMES.get(token, token) == "tok" else None
    if token in UNITS:
        meant = f"{before}{token}"
        return f"no blank before a unit: write `{meant}`", place.fix(before, meant)
    rate = len(behind) > 1 and (behind[0].type == "SLASH" or behind[0] == "per")
    last = behind[1] if rate else token
    if (unit := unit_in_words(f"{token}/{last}" if rate else str(token))) is None:
        return None
    meant = with_unit(str(before), unit)
    whole = span_of(before, place.file).to(span_of(last, place.file))
    return f"write `{meant}`", (Fix.replace(whole, meant),)


def _condition(place: Place) -> Help | None:
    """Return help for `if … { require … }`, `if … then require …` and `a if c else b`; None for others."""
    if place.token.type != "IF":
        return None
    if "REQUIRE" in place.expected:
        return f"a requirement with a condition is `require CONDITION implies REQUIREMENT`; {_VALUE_IF}", ()
    if "USE" in place.expected:
        return _VALUE_IF, ()
    if "CMP" in place.expected and any(token.type == "ELSE" for token in place.behind):
        return "the condition comes first: `if CONDITION then A else B`", ()
    return None


def _layers(place: Place) -> Help | None:
    """Return help and fixes for `layers[*]`, `layers(2..9)`, `2...9`, `a is layers[0]` and `a not same as b`; None for others."""
    token, before = place.token, place.before
    match token.type:
        case "STAR" if place.kind_before == "LSQB" and "RANGE" in place.expected:
            return "a range without ends holds all layers: write `layers[..]`", place.fix(None, "..")
        case "LPAR" if before == "layers":
            depth = 1
            for closer in place.behind:
                depth += (closer.type == "LPAR") - (closer.type == "RPAR")
                if depth == 0:
                    edits = Edit(place.where, "["), Edit(span_of(closer, place.file), "]")
                    return _LAYERS_OF, (Fix("write `[…]`", edits),)
            return _LAYERS_OF, ()
        case "DOT" if place.kind_before == "RANGE" and place.touches():
            return "a range has two dots: write `..`", place.fix(before, "..")
        case "LSQB" if before == "layers":
            front = [each for each in place.front if each.type != "_NL"]
            if len(front) > 1 and front[-2].type == "IS":
                fix = Fix.replace(span_of(front[-2], place.file), "same as")
                return "two layers are compared with `same as`: `layers[3] same as layers[2]`", (fix,)
        case "NOT" if "SAME_AS" in place.expected:
            help = "`not` stands in front of a whole statement, or behind `is`: `not a same as b`, `a is not noop`"
            return help, ()
    return None


def _equals(place: Place) -> Help | None:
    """Return help and fixes for `=` behind a value, `require a = 3` or `score kl = pieces = replace_one(…)`; None for others."""
    if place.token.type != "EQUAL" or "CMP" not in place.expected:
        return None
    statement = place.statement()
    if "EQUAL" not in [token.type for token in statement]:
        names = {each for each in place.behind if each.line == place.token.line and each.type == "NAME"}
        if [t.type for t in statement[:3]] == ["ASSERT", "NAME", "LPAR"] and names & {*statement[3:]}:
            return f"a function begins with `fn`: `fn {statement[1]}(…) = …`; one `=` sets, two compare", ()
        return "one `=` sets, two compare: write `==`", place.fix(None, "==")
    if len(statement) == 4 and statement[0] in DECLARATIONS and statement[2].type == "EQUAL":
        kind, name, sign, target = statement
        if preposition := KINDS[kind].preposition:
            form = f"{kind} {name} {preposition} {target} = …"
            help = f"what it builds on stands behind `{preposition}`: write `{form}`"
            return help, (Fix.replace(span_of(sign, place.file), preposition),)
    return "", ()


def _colon(place: Place) -> Help | None:
    """Return help and fixes for `layers[2:9]` and `attention: noop`; None for others."""
    if place.token.type != "COLON":
        return None
    if "EQUAL" in place.expected:
        assigns = bool(place.behind) and place.behind[0].type == "EQUAL"  # `:=`
        fix = Fix.replace(place.where if assigns else place.gap, "" if assigns else " =", "write `=`")
        return "a body is written with `=`, named arguments with `:`", (fix,)
    if "RSQB" in place.expected or place.kind_before == "LSQB":
        return "layers are selected with `..`, both ends included: `layers[2..9]`, `layers[0.. step 2]`", ()
    return None


def _next_statement(place: Place) -> Help | None:
    """Return help and fixes for `minimize kl require …` on one line and `require a <= 1, b <= 2`; None for others."""
    begins = place.token.type in ("REQUIRE", "PREFER", "MINIMIZE", "MAXIMIZE")
    if begins and place.before is not None and {"COMMA", "RBRACE"} <= place.expected:
        gap, front = after(place.before, place.file).start.to(place.where.start), place.statement()
        parts = [i for i, token in enumerate(front) if token.type in ("REQUIRE", "PREFER", "OR", "AND")]
        compares = not parts or {token.type for token in front[parts[-1] :]} & {"IS", "CMP", "SAME_AS"}
        separated = Fix.replace(gap, ", ", "write `,`")  # else the keyword may stand for `is`
        return "statements on one line are separated by `,`", (separated,) if compares else ()
    if place.token.type == "CMP" and "EQUAL" in place.expected:
        comma, keyword = _listed_behind(place)
        if comma is not None and keyword == "require":
            fix = Fix.replace(span_of(comma, place.file), " and", "write `and`")
            help = "bounds of one requirement are joined by `and`; behind a comma, write `require` again"
            return help, (fix,)
    return None


def _second_goal(place: Place) -> Diagnostic | None:
    """Return the diagnostic for a second goal, `params` of `minimize kl, params`; None if the place is not behind one."""
    if place.token.type not in _ENDS_STATEMENT or "EQUAL" not in place.expected:
        return None
    comma, keyword = _listed_behind(place)
    if comma is None or keyword not in ("minimize", "maximize"):
        return None
    goal = [token for token in place.front if token.start_pos > comma.start_pos]
    where = span_of(goal[0], place.file).to(span_of(goal[-1], place.file))
    text, (sign, bound) = "".join(goal), ("-", "<=") if keyword == "minimize" else ("", ">=")
    second = f"prefer {sign}{text}"
    help = f"a search has one goal: bound the other with `require {text} {bound} …`, or put it second with `{second}`"
    fix = Fix.replace(where, second, safe=False)
    return errors.UnexpectedToken(where, "a second goal", found=f"`{text}`", help=help, fixes=[fix])


def _listed_behind(place: Place) -> tuple[Token | None, str]:
    """Return the comma and keyword (minimize, maximize or require) of `KEYWORD …, a.b`; (None, empty) for others."""
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


def colon_body(tokens: list[Token], index: int, file: str) -> tuple[Diagnostic, int] | None:
    """Return the mistake of a body behind a colon, `bld b of w:`, and the index of the body's end; None for other colons."""
    if tokens[index].type != "COLON":
        return None
    start = index
    while start and tokens[start - 1].type != "_NL":
        start -= 1
    head = tokens[start:index]
    declares = bool(head) and head[0].column == 1 and head[0] in DECLARATIONS
    if not declares or any(token.type in ("EQUAL", "LBRACE", "LPAR") for token in head):
        return None
    kind = KINDS[head[0]]
    ends = (i for i in range(index, len(tokens) - 1) if tokens[i].type == "_NL")
    stop = next((i for i in ends if tokens[i + 1].column == 1), len(tokens) - 1)
    colon, last = tokens[index], tokens[stop - 1]
    behind = [token.type for token in tokens[index + 1 : index + 3]]
    holds = len(behind) == 2 and behind[0] != "_NL" and behind[1] not in ("COLON", "EQUAL")
    if holds and last.line == colon.line and len(head) > 1 and kind.value is not None:
        return None  # `=` was meant: `parent p: hf("…")`
    body = kind.form.partition(" {")[2]
    form = f"{' '.join(head)} {{{body}" if body and len(head) > 1 else kind.form
    help = "a body stands in braces, and its settings take `=`" if form.endswith("}") else "it is written"
    below = [] if last is colon else [Label(span_of(last, file), "up to here")]
    where, help = span_of(colon, file), f"{help}: `{form}`"
    return errors.MissingBrace(where, "the body begins here", secondary=below, help=help), stop


_FORMS = (_layers, _number, _word, _equals, _colon, _next_statement, _condition)
