"""Completion: the texts that can be written at a position."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lsprotocol import types

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.settings import Setting
from puzzledsl.base.units import UNITS
from puzzledsl.ir.metrics import METRICS
from puzzledsl.language import words
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import TOP_KEYWORDS
from puzzledsl.server.cursor import Cursor, cursor_at, path_of, postfix
from puzzledsl.server.document import Document
from puzzledsl.server.features.completion_files import names_of_used, paths
from puzzledsl.server.features.completion_items import (
    Items,
    alternatives,
    declarations,
    item,
    keywords,
    language,
    of_meaning,
    settings,
    unique,
    values,
    visible,
    words_of,
)
from puzzledsl.server.scopes import Scope, members, nature
from puzzledsl.server.slots import ANY, arguments_of, scope_at, setting_at, sub_block_of, table_of

_NUMBER = re.compile(r"\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?")


def complete(document: Document, line: int, column: int) -> Items:
    """Return the completion items at a position (1-based line and column); a partly written word counts as their prefix."""
    cursor = cursor_at(document, line, column)
    touching = cursor.touching
    if touching is not None and touching.type in ("COMMENT", "DOC"):
        return []
    if touching is not None and touching.type in ("STRING", "UNTERMINATED"):
        return paths(document, cursor, line, column)
    if touching is not None and touching.type == "QUANTITY":
        return _units(document, cursor, str(touching), line, column)
    scope = scope_at(document, cursor)
    if cursor.last is not None and cursor.last.type == "DOT":
        return _members(cursor, scope)
    if cursor.body is None:
        return _top_level(document, cursor, scope)
    return _in_body(cursor, scope)


# ---------------------------------------------------------------- where it is


def _top_level(document: Document, cursor: Cursor, scope: Scope) -> Items:
    statement = cursor.statement
    if not statement:
        kinds = [item(n, "kind", k.doc, k.form, insert=f"{n} ") for n, k in KINDS.items()]
        return kinds + keywords(TOP_KEYWORDS)
    first = statement[0]
    match first.type:
        case "USE":
            return names_of_used(document, cursor)
        case "PARAM" if len(statement) == 3:
            return [item(n, "type", t.doc) for n, t in words.TYPES.items()]
        case "LET" | "FN" | "PARAM" if not any(t.type == "EQUAL" for t in statement):
            return []
        case "NAME" if first in KINDS:
            return _head(cursor, scope)
    return _expression(cursor, scope, ANY)


def _head(cursor: Cursor, scope: Scope) -> Items:
    """Return the items for the head of a declaration: `KIND NAME of TARGET = VALUE`."""
    kind, statement = KINDS[str(cursor.statement[0])], cursor.statement
    if any(t.type == "EQUAL" for t in statement):
        return _expression(cursor, scope, setting_at(cursor, scope))
    last = statement[-1]
    if last.type in ("OF", "ON"):
        return [i for i in declarations(scope, kind.targets) if i.label != str(statement[1])]
    if len(statement) == 2 and kind.preposition:
        return keywords((kind.preposition,))
    return []


def _in_body(cursor: Cursor, scope: Scope) -> Items:
    body, statement = cursor.body, cursor.statement
    assert body is not None
    kind = KINDS.get(body.kind)
    if kind is None:
        return _expression(cursor, scope, ANY)
    table = table_of(cursor)
    if not statement:
        if body.section and body.section in kind.sections:
            return settings(table)
        return _statements(cursor, kind.statements, table, tuple(kind.sections))
    if statement[0].type == "LET" and len(statement) < 3:
        return []
    if any(t.type in ("REMOVE", "KEEP") for t in statement) and not cursor.calls:
        return alternatives(sub_block_of(cursor, scope))
    return _expression(cursor, scope, setting_at(cursor, scope))


def _statements(
    cursor: Cursor, names: tuple[str, ...], table: Mapping[str, Setting], sections: tuple[str, ...]
) -> Items:
    found = settings(table)
    found += [item(s, "setting", "", insert=f"{s} {{") for s in sections]
    if cursor.body is not None and KINDS[cursor.body.kind].edits_layers:
        found.append(item("layers", "space", words.SPACE_WORDS["layers"]))
    return found + keywords(names)


# ---------------------------------------------------------------- expressions


def _expression(cursor: Cursor, scope: Scope, setting: Setting) -> Items:
    """Return the values that the enclosing setting and calls accept, or the operators that can follow a value."""
    if cursor.behind_operand:
        return keywords(("as", *_GOES_ON) if cursor.last == "same" else _GOES_ON)
    if _in_pattern(cursor):
        subject = cursor.statement[: _last_is(cursor)]
        path = path_of(postfix(subject))
        return alternatives(nature(path, scope)[0] if path is not None else "")
    found: Items = []
    for depth, call in enumerate(cursor.calls):
        arguments, inner = arguments_of(call, scope, setting)
        if depth == len(cursor.calls) - 1 and call.at_start and call.opener.type == "LPAR":
            found = [item(n, "setting", s.doc, insert=f"{n}: ") for n, s in arguments.items()]
        setting = inner
    found += words_of(setting)
    if setting.words and not setting.sums:
        return found + values(scope, ("let", "param"))
    if setting.kinds and not setting.calls:
        return found + declarations(scope, setting.kinds) + values(scope, ("let", "param"))
    found += declarations(scope, setting.kinds) if setting.kinds else []
    return unique([*found, *visible(scope), *language(), *keywords(("if", "not"))])


_GOES_ON = (*"and or implies is in mod step where because apart then else for".split(), "same as")


def _in_pattern(cursor: Cursor) -> bool:
    return _last_is(cursor) > 0


def _last_is(cursor: Cursor) -> int:
    """Return the index of the `is` or `is not` whose pattern contains the word, 0 if none; `is (a | b)` has several names."""
    kinds = [t.type for t in cursor.statement]
    while kinds and kinds[-1] in ("VBAR", "NAME", "LPAR") and "IS" in kinds and cursor.calls:
        kinds.pop()
    if kinds[-1:] == ["IS"]:
        return len(kinds) - 1
    return len(kinds) - 2 if kinds[-2:] == ["IS", "NOT"] else 0


def _members(cursor: Cursor, scope: Scope) -> Items:
    path = path_of(postfix(cursor.statement[:-1]))
    if path is None:
        return []
    return [of_meaning(meaning) for meaning in members(*nature(path, scope)).values()]


# ---------------------------------------------------------------- units


def _units(document: Document, cursor: Cursor, text: str, line: int, column: int) -> Items:
    """Return the units behind a number, those of the quantity that it is compared with first."""
    digits = _NUMBER.match(text)
    if digits is None or "." in (text[-1:], text[:1]):
        return []
    wanted = _wanted_dimension(cursor)
    place = document.lines.range(Span("", line, column - len(text), line, column))
    found: Items = []
    named = [(u, d.name, d == wanted) for u, (_, d) in UNITS.items() if u and u != "µs"]
    named += [("%", "a share", wanted is None), ("x", "times the parent's", wanted is not None)]
    for unit, meaning, first in named:
        gap = " " if unit.endswith("tok/s") else ""
        written = f"{digits.group()}{gap}{unit}"
        found.append(
            types.CompletionItem(
                written,
                kind=types.CompletionItemKind.Unit,
                detail=meaning,
                sort_text=("0" if first else "1") + unit,
                filter_text=written,
                text_edit=types.TextEdit(place, written),
            )
        )
    return found


def _wanted_dimension(cursor: Cursor) -> object:
    """Return the dimension of the metric named last in the statement."""
    for before, token in zip(reversed(cursor.statement[:-1]), reversed(cursor.statement), strict=False):
        if before.type == "DOT" and str(token) in METRICS:
            return METRICS[str(token)]
    return None
