"""What could be written at a place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lsprotocol import types

from puzzledsl.diagnostics import Span
from puzzledsl.ir.metrics import METRICS
from puzzledsl.ir.names import Symbol
from puzzledsl.lang import tree
from puzzledsl.lang.kinds import TOP_KEYWORDS
from puzzledsl.resources import listing
from puzzledsl.server import calls, words
from puzzledsl.server.cursor import Cursor, OpenCall, cursor_at, path_of, postfix
from puzzledsl.server.document import Document
from puzzledsl.server.kinds import KINDS, PROFILE
from puzzledsl.server.meanings import Declared, Word
from puzzledsl.server.navigation import path_of_use
from puzzledsl.server.scopes import Scope, declared, element, members, nature
from puzzledsl.server.vocabulary import Setting
from puzzledsl.units import UNITS

Items = list[types.CompletionItem]
_ICONS = {
    "kind": types.CompletionItemKind.Keyword,
    "keyword": types.CompletionItemKind.Keyword,
    "setting": types.CompletionItemKind.Property,
    "call": types.CompletionItemKind.Constructor,
    "function": types.CompletionItemKind.Function,
    "metric": types.CompletionItemKind.Field,
    "fact": types.CompletionItemKind.Field,
    "space": types.CompletionItemKind.Variable,
    "word": types.CompletionItemKind.EnumMember,
    "type": types.CompletionItemKind.TypeParameter,
}
_DECLARED = {
    "let": types.CompletionItemKind.Constant,
    "param": types.CompletionItemKind.Variable,
    "variable": types.CompletionItemKind.Variable,
    "fn": types.CompletionItemKind.Function,
    "file": types.CompletionItemKind.Module,
}
_ANY = Setting("")
_NUMBER = re.compile(r"\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?")


def complete(document: Document, line: int, column: int) -> Items:
    """What could be written at a place, whatever of it is there already."""
    cursor = cursor_at(document, line, column)
    touching = cursor.touching
    if touching is not None and touching.type in ("COMMENT", "DOC"):
        return []
    if touching is not None and touching.type in ("STRING", "UNTERMINATED"):
        return _paths(document, cursor, line, column)
    if touching is not None and touching.type == "QUANTITY":
        return _units(document, cursor, str(touching), line, column)
    scope = _scope(document, cursor)
    if cursor.last is not None and cursor.last.type == "DOT":
        return _members(cursor, scope)
    if cursor.body is None:
        return _top_level(document, cursor, scope)
    return _in_body(cursor, scope)


def _scope(document: Document, cursor: Cursor) -> Scope:
    """The names that are visible at the cursor."""
    scope = Scope(document.lately).inner()
    head = str(cursor.statement[0]) if cursor.statement else ""
    kind = KINDS.get(cursor.body.kind if cursor.body else head)
    if kind is not None and kind.sees_space:
        scope.see_space()
    inner = scope.inner()
    named: dict[str, tree.Expr | None] = dict(cursor.body.names) if cursor.body else {}
    for index, token in enumerate(cursor.statement[:-2]):
        if token.type == "FOR" and cursor.statement[index + 2].type == "IN":
            named[str(cursor.statement[index + 1])] = path_of(cursor.statement[index + 3 :])
    for name, value in named.items():
        kind_of_value = element(nature(value, inner)[0]) if value is not None else ""
        place = Span(document.lately.file, 1, 1, 1, 1)
        inner.names[name] = Declared(name, "variable", document.key, place), kind_of_value
    return inner


# ---------------------------------------------------------------- where it is


def _top_level(document: Document, cursor: Cursor, scope: Scope) -> Items:
    statement = cursor.statement
    if not statement:
        kinds = [_item(n, "kind", k.doc, k.form, insert=f"{n} ") for n, k in KINDS.items()]
        return kinds + _keywords(TOP_KEYWORDS)
    first = statement[0]
    match first.type:
        case "USE":
            return _names_of_used(document, cursor)
        case "PARAM" if len(statement) == 3:
            return [_item(n, "type", d) for n, d in words.TYPES.items()]
        case "LET" | "FN" | "PARAM" if not any(t.type == "EQUAL" for t in statement):
            return []
        case "NAME" if first in KINDS:
            return _head(cursor, scope)
    return _expression(cursor, scope, _ANY)


def _head(cursor: Cursor, scope: Scope) -> Items:
    """The head of a declaration: `KIND NAME of TARGET = VALUE`."""
    kind, statement = KINDS[str(cursor.statement[0])], cursor.statement
    if any(t.type == "EQUAL" for t in statement):
        return _expression(cursor, scope, kind.value or _ANY)
    last = statement[-1]
    if last.type in ("OF", "ON"):
        return [i for i in _declared(scope, kind.targets) if i.label != str(statement[1])]
    if len(statement) == 2 and kind.preposition:
        return _keywords((kind.preposition,))
    return []


def _in_body(cursor: Cursor, scope: Scope) -> Items:
    body, statement = cursor.body, cursor.statement
    assert body is not None
    kind = KINDS.get(body.kind)
    if kind is None:
        return _expression(cursor, scope, _ANY)
    table = kind.sections.get(body.section, {}) if body.section else kind.settings
    if not statement:
        if body.section and body.section in kind.sections:
            return _settings(table)
        return _statements(cursor, kind.statements, table, tuple(kind.sections))
    if statement[0].type == "LET" and len(statement) < 3:
        return []
    if any(t.type in ("REMOVE", "KEEP") for t in statement) and not cursor.calls:
        return _alternatives(_sub_block(cursor, scope))
    return _expression(cursor, scope, _setting(cursor, scope, table))


def _statements(
    cursor: Cursor, keywords: tuple[str, ...], table: Mapping[str, Setting], sections: tuple[str, ...]
) -> Items:
    found = _settings(table)
    found += [_item(s, "setting", "", insert=f"{s} {{") for s in sections]
    if cursor.body is not None and cursor.body.kind == "space":
        found.append(_item("layers", "space", words.SPACE_WORDS["layers"]))
    return found + _keywords(keywords)


def _setting(cursor: Cursor, scope: Scope, table: Mapping[str, Setting]) -> Setting:
    """What may stand right of the `=` of the statement."""
    kinds = [t.type for t in cursor.statement]
    if kinds[:2] == ["NAME", "EQUAL"] and str(cursor.statement[0]) in table:
        return table[str(cursor.statement[0])]
    if cursor.body is not None and cursor.body.kind == "space" and {"EQUAL", "EXTEND"} & set(kinds):
        sub_block = _sub_block(cursor, scope)
        known = [calls.ATTENTION] if sub_block == "attention" else [calls.FFN] if sub_block else []
        both = {name: call for each in (known or [calls.FFN, calls.ATTENTION]) for name, call in each.items()}
        return Setting("", words=tuple(both), calls=both)
    return _ANY


def _sub_block(cursor: Cursor, scope: Scope) -> str:
    """`attention` or `ffn` where the left side of an override says so."""
    ends = [i for i, t in enumerate(cursor.statement) if t.type in ("EQUAL", "EXTEND", "REMOVE", "KEEP")]
    target = path_of(cursor.statement[: ends[0]]) if ends else None
    found = nature(target, scope)[0] if target is not None else ""
    return found if found in ("attention", "ffn") else ""


# ---------------------------------------------------------------- expressions


def _expression(cursor: Cursor, scope: Scope, setting: Setting) -> Items:
    """A value, as the setting it belongs to and the calls it stands in take it; or what goes on behind one."""
    if cursor.behind_operand:
        return _keywords(_GOES_ON)
    if _in_pattern(cursor):
        subject = cursor.statement[: _last_is(cursor)]
        path = path_of(postfix(subject))
        return _alternatives(nature(path, scope)[0] if path is not None else "")
    found: Items = []
    for depth, call in enumerate(cursor.calls):
        arguments, inner = _arguments(call, scope, setting)
        if depth == len(cursor.calls) - 1 and call.at_start and call.opener.type == "LPAR":
            found = [_item(n, "setting", s.doc, insert=f"{n}: ") for n, s in arguments.items()]
        setting = inner
    found += _calls(setting)
    if setting.words and not setting.sums:
        return found + _values(scope, ("let", "param"))
    if setting.kinds and not setting.calls:
        return found + _declared(scope, setting.kinds) + _values(scope, ("let", "param"))
    found += _declared(scope, setting.kinds) if setting.kinds else []
    return _unique([*found, *_visible(scope), *_language(), *_keywords(("if", "not"))])


_GOES_ON = "and or implies is in mod step where because apart then else for".split()


def _in_pattern(cursor: Cursor) -> bool:
    return _last_is(cursor) > 0


def _last_is(cursor: Cursor) -> int:
    """Where the `is` stands whose pattern the word belongs to; 0 where none does. `is (a | b)` has several."""
    kinds = [t.type for t in cursor.statement]
    while kinds and kinds[-1] in ("VBAR", "NAME", "LPAR") and "IS" in kinds and cursor.calls:
        kinds.pop()
    if kinds[-1:] == ["IS"]:
        return len(kinds) - 1
    return len(kinds) - 2 if kinds[-2:] == ["IS", "NOT"] else 0


def _arguments(call: OpenCall, scope: Scope, setting: Setting) -> tuple[Mapping[str, Setting], Setting]:
    """The arguments of a call, and what the one being written takes."""
    name, place = call.argument
    word = str(call.callee[-1]) if len(call.callee) == 1 else ""
    known = setting.calls.get(word)
    path = path_of(call.callee)
    found = nature(path, scope)[1] if path is not None else None
    if known is None and isinstance(found, Declared):
        if found.kind == "hardware":
            return PROFILE, PROFILE.get(name or "", _ANY)
        if found.symbol is not None and isinstance(found.symbol.item, tree.Fn):
            return {p.text: _ANY for p in found.symbol.item.parameters}, _ANY
        return {}, _ANY
    known = known or calls.ANYWHERE.get(word)
    if known is None:
        return {}, _ANY
    return known.arguments, known.argument(name, place) or _ANY


# ---------------------------------------------------------------- items


def _item(name: str, icon: str, doc: str = "", detail: str = "", insert: str = "") -> types.CompletionItem:
    return types.CompletionItem(
        name,
        kind=_ICONS[icon],
        detail=detail or None,
        documentation=types.MarkupContent(types.MarkupKind.Markdown, doc) if doc else None,
        insert_text=insert or None,
    )


def _unique(items: Iterable[types.CompletionItem]) -> Items:
    return list({i.label: i for i in reversed(list(items))}.values())[::-1]


def _keywords(names: Iterable[str]) -> Items:
    return [_item(n, "keyword", words.KEYWORDS.get(n, ""), insert=f"{n} ") for n in names]


def _settings(table: Mapping[str, Setting]) -> Items:
    return [_item(n, "setting", s.doc, insert=f"{n} = ") for n, s in table.items()]


def _calls(setting: Setting) -> Items:
    """The words and calls of a closed list."""
    found = [_item(n, "call", c.doc, ", ".join(c.names)) for n, c in setting.calls.items()]
    return found + [_item(n, "word", words.OTHER.get(n, "")) for n in setting.words if n not in setting.calls]


def _alternatives(sub_block: str) -> Items:
    tables = {"attention": [calls.ATTENTION], "ffn": [calls.FFN]}
    both = tables.get(sub_block, [calls.ATTENTION, calls.FFN])
    return _unique(_item(n, "call", c.doc) for table in both for n, c in table.items())


def _of(meaning: Declared | Word) -> types.CompletionItem:
    if isinstance(meaning, Word):
        return _item(meaning.name, meaning.category, meaning.doc)
    doc = getattr(meaning.symbol.item, "doc", "") if meaning.symbol is not None else ""
    icon = _DECLARED.get(meaning.kind, types.CompletionItemKind.Class)
    note = types.MarkupContent(types.MarkupKind.Markdown, doc) if doc else None
    return types.CompletionItem(meaning.name, kind=icon, detail=meaning.kind, documentation=note)


def _visible(scope: Scope) -> Items:
    return [_of(meaning) for meaning in scope.visible().values()]


def _declared(scope: Scope, kinds: tuple[str, ...]) -> Items:
    """The declarations of some kinds, and files that may hold one."""
    found = [m for m in scope.visible().values() if isinstance(m, Declared)]
    return [_of(m) for m in found if m.kind in (*kinds, "file")]


def _values(scope: Scope, kinds: tuple[str, ...]) -> Items:
    found = [m for m in scope.visible().values() if isinstance(m, Declared)]
    return [_of(m) for m in found if m.kind in kinds]


def _language() -> Items:
    """Functions, and words that build something, of any place."""
    found = [_item(n, "function", d) for n, d in words.FUNCTIONS.items()]
    found += [_item(n, "word", d) for n, d in words.VALUES.items()]
    return found + [_item(n, "call", c.doc) for n, c in calls.ANYWHERE.items()]


def _members(cursor: Cursor, scope: Scope) -> Items:
    path = path_of(postfix(cursor.statement[:-1]))
    if path is None:
        return []
    return [_of(meaning) for meaning in members(*nature(path, scope)).values()]


# ---------------------------------------------------------------- files


def _names_of_used(document: Document, cursor: Cursor) -> Items:
    """In `use "…" (`: what the file declares and is not yet named."""
    statement = cursor.statement
    if len(statement) == 2 and not cursor.calls:
        return _keywords(("as",))
    if not cursor.calls or statement[1].type != "STRING":
        return []
    use = tree.Use(
        span=_PLACE, path=tree.String(span=_PLACE, value=str(statement[1])[1:-1]), names=(), alias=None
    )
    path = path_of_use(document, use)
    other = document.project.document(path) if path is not None else None
    named = {str(t) for t in cursor.calls[-1].words}
    if other is None:
        return []
    own = [s for s in other.file.names.values() if isinstance(s, Symbol) and s.file is other.file]
    return [_of(declared(s)) for s in own if s.name not in named]


_PLACE = Span("", 1, 1, 1, 1)


def _paths(document: Document, cursor: Cursor, line: int, column: int) -> Items:
    """In `use "`: shipped files, then those of the folder and below it."""
    if [t.type for t in cursor.statement] != ["USE"] or cursor.touching is None:
        return []
    typed = str(cursor.touching)[1:]
    if cursor.touching.type == "STRING":
        return []  # behind the closing quote
    start = Span("", line, column - len(typed), line, column)
    known = [n for n in listing("spaces") if n.startswith("std/")]
    found: Items = []
    for name in [*known, *_beside(document)]:
        edit = types.TextEdit(document.lines.range(start), name)
        found.append(
            types.CompletionItem(name, kind=types.CompletionItemKind.File, filter_text=name, text_edit=edit)
        )
    return found


def _beside(document: Document) -> list[str]:
    top = document.path.parent
    try:
        paths: list[Path] = [*top.glob("*.pzl"), *top.glob("*/*.pzl")]
    except OSError:
        return []
    names = [p.relative_to(top).as_posix() for p in paths if p.name != document.path.name]
    return sorted(n for n in names if not n.startswith("."))[:200]


# ---------------------------------------------------------------- units


def _units(document: Document, cursor: Cursor, text: str, line: int, column: int) -> Items:
    """Behind a number: its units, those of the amount it is compared with first."""
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
    """The dimension of the metric named last in the statement."""
    for before, token in zip(reversed(cursor.statement[:-1]), reversed(cursor.statement), strict=False):
        if before.type == "DOT" and str(token) in METRICS:
            return METRICS[str(token)]
    return None
