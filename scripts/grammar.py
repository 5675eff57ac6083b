"""Writes grammars/pzl.json, the words and LALR tables of the language, from grammars/pzl.lark: `python scripts/grammar.py`.

Lark makes the tables here, once; the package reads them and needs no Lark. A test holds the file equal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lark import Lark
from lark.grammar import Rule
from lark.parsers.lalr_analysis import Shift

FOLDER = Path(__file__).parents[1] / "grammars"
TABLES = FOLDER / "pzl.json"


def build(*, strict: bool = False) -> Any:
    """Return Lark's parser. `strict` raises on any conflict (needs interegular)."""
    options = {"parser": "lalr", "lexer": "basic", "maybe_placeholders": False}
    return Lark.open(str(FOLDER / "pzl.lark"), start=["start", "trivia"], strict=strict, **options)


def tables() -> str:
    """Return the text of grammars/pzl.json: one line for each word, rule and state."""
    parser = build()
    lalr = parser.parser.parser._parse_table
    numbers = {
        lalr.start_states["start"]: 0
    }  # in the order of a walk, because Lark's own differ from run to run
    rules: dict[str, int] = {}
    states: list[dict[str, int]] = []
    for old in (walk := [*numbers]):
        state = {}
        for kind, (what, argument) in sorted(lalr.states[old].items()):
            if what is Shift:
                if argument not in numbers:
                    numbers[argument] = len(walk)
                    walk.append(argument)
                state[kind] = numbers[argument]
            else:  # -1 - the number of a rule to reduce by
                state[kind] = -1 - rules.setdefault(_line(_rule(argument)), len(rules))
        states.append(state)
    sections = {
        "words": [[str(t.name), t.pattern.to_regexp()] for t in parser.parser.lexer.scanner.terminals],
        "keywords": sorted(
            t.pattern.value for t in parser.terminals if t.pattern.type == "str" and t.pattern.value.isalpha()
        ),
        "rules": [json.loads(rule) for rule in rules],
        "states": states,
    }
    lines = [f"{json.dumps(k)}: [\n" + ",\n".join(map(_line, v)) + "\n]" for k, v in sections.items()]
    return "{\n" + ",\n".join([f'"end": {numbers[lalr.end_states["start"]]}', *lines]) + "\n}\n"


def _rule(rule: Rule) -> list[object]:
    """Return what a rule makes, the name of its branch, whether one child replaces it, and a mark for each symbol (`_Rule`)."""
    kept = rule.options.keep_all_tokens
    marks = "".join(
        ("+" if kept or not symbol.filter_out else "-")  # type: ignore[attr-defined]
        if symbol.is_term
        else ("*" if symbol.name.startswith("_") else "+")
        for symbol in rule.expansion
    )
    name = rule.alias or rule.origin.name
    return [str(rule.origin.name), str(name), int(rule.options.expand1 and not rule.alias), marks]


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    TABLES.write_text(tables(), "utf-8")
