"""Messages for an unexpected token: the token found, the tokens allowed, and the most likely mistake."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.phrases import listed
from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax import errors
from puzzledsl.syntax.recovery.habits import Place, habit
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


def unexpected(place: Place) -> Diagnostic:
    """The diagnostic for a token that cannot stand where it is."""
    token, before, expected, file = place.token, place.before, place.expected, place.file
    if token.lower() in KEYWORDS and "NAME" in expected and not expected & {"QUANTITY", "USE", "REQUIRE"}:
        return errors.ReservedWord(span_of(token, file), word=str(token))
    at_end = token.type == "_NL"
    where = after(before, file) if at_end and before is not None else span_of(token, file)
    label = _label(expected, before)
    help, fixes = habit(place) or ("", ())
    return errors.UnexpectedToken(where, label, found=found(token), help=help, fixes=fixes)


def found(token: Token) -> str:
    """A token in words."""
    text = token if len(token) <= 30 else token[:29] + "…"
    kinds = {
        "NAME": f"name `{text}`",
        "QUANTITY": f"number `{text}`",
        "STRING": "string",
        "_NL": "end of line",
    }
    return kinds.get(token.type, f"keyword `{text}`" if token.isalpha() else f"`{text}`")


def _label(expected: set[str], before: Token | None) -> str:
    rest = set(expected)
    words: list[str] = []
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
    if rest >= _ENDS_STATEMENT or ({"_NL"} <= rest and operator):
        rest -= _ENDS_STATEMENT
        words.append("the end of the statement")
    words += [shown for kind, shown in _SHOWN.items() if kind in rest]
    if "EQUAL" not in rest and len(words) < 2:
        words += [f"`{kind.lower()}`" for kind in sorted(rest) if kind.isalpha() and kind.lower() in KEYWORDS]
    elif rest & {"OF", "ON"}:
        words += [f"`{kind.lower()}`" for kind in ("OF", "ON") if kind in rest]
    if operator:
        words.append("an operator")
    tail = " after the name" if before is not None and before.type == "NAME" and "EQUAL" in rest else ""
    return f"expected {listed(words, 'or')}{tail}" if words else "this cannot stand here"
