"""Writes the TextMate grammar of VS Code's extension from the parser's own terminals.

    python editors/textmate.py            writes editors/vscode/syntaxes/pzl.tmLanguage.json

What a word is, the Lark grammar says; what class a word has, `puzzledsl/syntax/highlight.py`. TextMate takes the first rule
that matches furthest to the left, so the rules below stand in the order in which these two decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from puzzledsl.base.files import write_text
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import KEYWORDS, OPERATOR_KEYWORDS, TARGET_KEYWORDS
from puzzledsl.syntax.highlight import (
    ASSIGNS,
    DECLARES,
    MISTAKES,
    PUNCTUATION,
)
from puzzledsl.syntax.tokens import grammar as tables

GRAMMAR = Path(__file__).parent / "vscode" / "syntaxes" / "pzl.tmLanguage.json"

SCOPES: dict[str, str] = {
    "comment": "comment.line.number-sign.pzl",
    "doc": "comment.line.documentation.pzl",
    "keyword": "keyword.control.pzl",
    "operator_word": "keyword.operator.word.pzl",
    "kind": "storage.type.pzl",
    "declaration": "entity.name.type.pzl",
    "type": "support.type.pzl",
    "attribute": "variable.other.property.pzl",
    "argument": "variable.parameter.pzl",
    "setting": "support.type.property-name.pzl",
    "call": "entity.name.function.pzl",
    "name": "variable.other.pzl",
    "string": "string.quoted.double.pzl",
    "number": "constant.numeric.pzl",
    "operator": "keyword.operator.pzl",
    "punctuation": "punctuation.pzl",
    "error": "invalid.illegal.pzl",
}
"""The scope of each class: those that colour themes know."""

BLANKS = r"[ \t]*"
NO_LETTER_BEFORE, NO_LETTER_AFTER = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"


def terminals() -> dict[str, str]:
    """Every terminal of the parser as a regular expression, in the order in which its lexer tries them."""
    return dict(tables()["words"])


def words(alternatives: Iterable[str]) -> str:
    """One of several whole words."""
    return (
        f"{NO_LETTER_BEFORE}({'|'.join(sorted(alternatives, key=lambda w: (-len(w), w)))}){NO_LETTER_AFTER}"
    )


def rule(match: str, *classes: str | None) -> dict[str, Any]:
    """A rule for one class, or with a class for each group of its expression."""
    if len(classes) == 1 and classes[0] is not None:
        return {"name": SCOPES[classes[0]], "match": match}
    captures = {str(i): {"name": SCOPES[c]} for i, c in enumerate(classes, 1) if c is not None}
    return {"match": match, "captures": captures}


def rules() -> list[dict[str, Any]]:
    """All rules; the first that matches wins."""
    known = terminals()
    name = rf"(?!(?:{'|'.join(sorted(KEYWORDS))}){NO_LETTER_AFTER}){known['NAME']}"
    then = rf"(?={BLANKS}"
    assigns = "|".join(known[a] for a in known if a in ASSIGNS and a != "EQUAL") + "|=(?!=)"
    operators = [
        known[n]
        for n in known
        if n
        not in {
            "NAME",
            "SAME_AS",
            "QUANTITY",
            "STRING",
            "COMMENT",
            "DOC",
            "BLANK",
            "_NL",
            *MISTAKES,
            *PUNCTUATION,
        }
        and not known[n].isalpha()
    ]
    plain = frozenset(KEYWORDS) - frozenset(OPERATOR_KEYWORDS)
    return [
        {"match": rf"^{BLANKS}({known['DOC']})", "captures": {"1": {"name": SCOPES["doc"]}}},
        rule(f"{known['DOC']}|{known['COMMENT']}", "comment"),
        rule(known["FOREIGN"], "error"),
        {
            "name": SCOPES["string"],
            "match": known["STRING"],
            "captures": {"0": {"patterns": [{"name": "constant.character.escape.pzl", "match": r"\\."}]}},
        },
        rule(known["UNTERMINATED"], "error"),
        rule(rf"^({'|'.join(KINDS)})[ \t]+({name})", "kind", "declaration"),
        rule(
            rf"^{BLANKS}(param)[ \t]+({name}){BLANKS}(:){BLANKS}({name})",
            *("keyword", "declaration", "punctuation", "type"),
        ),
        rule(rf"{words(DECLARES)}[ \t]+({name})", "keyword", "declaration"),
        rule(rf"{words(TARGET_KEYWORDS)}[ \t]+({name})", "keyword", "name"),
        rule(f"{NO_LETTER_BEFORE}{known['SAME_AS']}", "operator_word"),
        rule(words(OPERATOR_KEYWORDS), "operator_word"),
        rule(words(plain), "keyword"),
        rule(known["RANGE"], "operator"),
        rule(rf"({known['DOT']}){BLANKS}({name})", "punctuation", "attribute"),
        rule(rf"{name}{then}:)", "argument"),
        rule(rf"{name}{then}\()", "call"),
        rule(rf"{name}{then}(?:{assigns}))", "setting"),
        rule(name, "name"),
        rule(known["QUANTITY"], "number"),
        rule("|".join(operators), "operator"),
        rule("|".join(known[n] for n in PUNCTUATION), "punctuation"),
        rule(r"[^\n \t]", "error"),
    ]


def grammar() -> str:
    """The text of the grammar file."""
    value = {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "comment": "Generated by editors/textmate.py from grammars/lexical.lark and grammars/pzl.lark: do not edit.",
        "name": "pzl",
        "scopeName": "source.pzl",
        "fileTypes": ["pzl"],
        "patterns": rules(),
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text(GRAMMAR, grammar())
