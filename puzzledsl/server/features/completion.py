"""Completion: the texts that can be written at a position. Signature help: the arguments of the call there."""

from __future__ import annotations

import re
from pathlib import Path

from lsprotocol import types

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.resources import listing
from puzzledsl.base.units import UNITS
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.occurrences import Gap
from puzzledsl.checker.names.scopes import members
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.language import words
from puzzledsl.language.alternatives import alternatives_of
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import TOP_KEYWORDS
from puzzledsl.server.document import Document
from puzzledsl.server.features.completion_items import (
    Items,
    calls_of,
    item,
    keywords,
    language,
    of_kinds,
    of_meaning,
    settings,
    unique,
    words_of,
)
from puzzledsl.server.features.navigation import path_of_use
from puzzledsl.server.features.writing import Written, written_before
from puzzledsl.syntax import tree

_NUMBER = re.compile(r"\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?")
_GOES_ON = (*"and or implies is in mod step where because apart then else for".split(), "same as")
MOST_PATHS = 200
"""Files beside the text that `use` offers."""


def complete(document: Document, line: int, column: int) -> Items:
    """Return the completion items at a position (1-based line and column); a partly written word counts as their prefix."""
    written = written_before(document, line, column)
    statement, touching = written.statement, written.touching
    match "" if touching is None else touching.type:
        case "COMMENT" | "DOC":
            return []
        case "STRING" | "UNTERMINATED":
            return _paths(document, written, line, column)
        case "QUANTITY":
            return _units(document, written, line, column)
    first = statement[0].type if statement else ""
    if not written.opened and first == "USE" and len(statement) == 2:
        return keywords(("as",))
    if first == "USE" and not written.opened:
        return []
    if not statement and not written.opened:
        kinds = [item(n, "kind", k.doc, k.form, insert=f"{n} ") for n, k in KINDS.items()]
        return kinds + keywords(TOP_KEYWORDS)
    if not statement:
        gap = written.gap(document, " = 0")
        return [] if gap is None else _statements(gap)
    if _names_something(written):
        kind = KINDS.get(str(statement[0]))
        return keywords((kind.preposition,)) if len(statement) == 2 and kind and kind.preposition else []
    if written.behind_operand:
        return keywords(("as", *_GOES_ON) if written.last == "same" else _GOES_ON)
    gap = written.gap(document)
    return [] if gap is None else _in_gap(document, gap)


def _names_something(written: Written) -> bool:
    """Return True where a new name is being given, or right behind it."""
    kinds = [token.type for token in written.statement]
    if kinds[0] in ("LET", "FN", "PARAM"):
        return "EQUAL" not in kinds and "COLON" not in kinds
    return (
        not written.opened and kinds[0] == "NAME" and len(kinds) <= 2 and str(written.statement[0]) in KINDS
    )


def _in_gap(document: Document, gap: Gap) -> Items:
    match gap.role:
        case "member":
            return [of_meaning(meaning) for meaning in members(*gap.before).values()]
        case "pattern":
            return calls_of(alternatives_of(gap.before[1]).calls)
        case "type":
            return [item(name, "type", known.doc) for name, known in words.TYPES.items()]
        case "target":
            named = gap.node.name.text if isinstance(gap.node, tree.Decl) else ""
            return [i for i in of_kinds(gap.scope, (*gap.setting.kinds, "file")) if i.label != named]
        case "import":
            return _names_of_used(document, gap)
        case "statement":
            return _statements(gap)
        case "value":
            return _values(gap)


def _statements(gap: Gap) -> Items:
    """Return what can begin a statement of a body or a section."""
    kind = KINDS.get(gap.kind)
    if kind is None:
        return _values(gap)
    if gap.section in kind.sections:
        return settings(kind.table(gap.section))
    found = settings(kind.settings)
    found += [item(name, "setting", "", insert=f"{name} {{") for name in kind.sections]
    if kind.edits_layers:
        found.append(item("layers", "space", words.SPACE_WORDS["layers"]))
    return found + keywords(kind.statements)


def _values(gap: Gap) -> Items:
    """Return the values that the setting and the calls around the cursor accept."""
    setting, found = gap.setting, Items()
    call = gap.calls[-1] if gap.calls else None
    if call is not None and call.is_empty:
        found = [item(n, "setting", s.doc, insert=f"{n}: ") for n, s in call.arguments.items()]
    found += words_of(setting)
    if setting.words and not setting.sums:
        return found + of_kinds(gap.scope, ("let", "param"))
    if setting.kinds:
        found += of_kinds(gap.scope, (*setting.kinds, "file"))
        if not setting.calls:
            return found + of_kinds(gap.scope, ("let", "param"))
    visible = [of_meaning(meaning) for meaning in gap.scope.visible().values()]
    return unique([*found, *visible, *language(), *keywords(("if", "not"))])


# ---------------------------------------------------------------- files


def _names_of_used(document: Document, gap: Gap) -> Items:
    """In `use "…" (`: return the names that the file declares and the list does not contain yet."""
    assert isinstance(gap.node, tree.Use)
    path = path_of_use(document, gap.node)
    other = document.project.document(path) if path is not None else None
    if other is None:
        return []
    named = {name.text for name in gap.node.names}
    own = [s for s in other.file.names.values() if isinstance(s, Symbol) and s.file is other.file]
    return [of_meaning(symbol) for symbol in own if symbol.name not in named]


def _paths(document: Document, written: Written, line: int, column: int) -> Items:
    """In `use "`: return the shipped files, then those in the folder and below it."""
    touching = written.touching
    if [t.type for t in written.statement] != ["USE"] or touching is None or touching.type == "STRING":
        return []
    start = Span("", line, column - len(touching) + 1, line, column)
    found: Items = []
    for name in [*(n for n in listing("spaces") if n.startswith("std/")), *_beside(document)]:
        edit = types.TextEdit(document.lines.range(start), name)
        kind = types.CompletionItemKind.File
        found.append(types.CompletionItem(name, kind=kind, filter_text=name, text_edit=edit))
    return found


def _beside(document: Document) -> list[str]:
    top = document.path.parent
    try:
        paths: list[Path] = [*top.glob("*.pzl"), *top.glob("*/*.pzl")]
    except OSError:
        return []
    names = [p.relative_to(top).as_posix() for p in paths if p.name != document.path.name]
    return sorted(n for n in names if not n.startswith("."))[:MOST_PATHS]


# ---------------------------------------------------------------- units


def _units(document: Document, written: Written, line: int, column: int) -> Items:
    """Return the units behind a number, those of the quantity that it is compared with first."""
    text = str(written.touching)
    digits = _NUMBER.match(text)
    if digits is None or "." in (text[-1:], text[:1]):
        return []
    wanted = _wanted_dimension(written)
    place = document.lines.range(Span("", line, column - len(text), line, column))
    found: Items = []
    named = [(u, d.name, d == wanted) for u, (_, d) in UNITS.items() if u and u != "µs"]
    named += [("%", "a share", wanted is None), ("x", "times the parent's", wanted is not None)]
    for unit, meaning, first in named:
        gap = " " if unit.endswith("tok/s") else ""
        label = f"{digits.group()}{gap}{unit}"
        found.append(
            types.CompletionItem(
                label,
                kind=types.CompletionItemKind.Unit,
                detail=meaning,
                sort_text=("0" if first else "1") + unit,
                filter_text=label,
                text_edit=types.TextEdit(place, label),
            )
        )
    return found


def _wanted_dimension(written: Written) -> object:
    """Return the dimension of the metric named last in the statement."""
    pairs = zip(written.statement, written.statement[1:], strict=False)
    named = [str(token) for before, token in pairs if before.type == "DOT" and str(token) in METRICS]
    return METRICS[named[-1]].dimension if named else None


# ---------------------------------------------------------------- signature help


def _path(function: tree.Expr) -> str:
    """Return `name` or `file.name`."""
    match function:
        case tree.Attribute(target=target, name=name):
            return f"{_path(target)}.{name.text}"
        case tree.Name(text=text):
            return text
    return "…"


def signature(document: Document, line: int, column: int) -> types.SignatureHelp | None:
    """Return the signature of the innermost call at a position; None outside calls."""
    gap = written_before(document, line, column).gap(document)
    call = gap.calls[-1] if gap is not None and gap.calls else None
    if call is None or not call.arguments:
        return None
    names = list(call.arguments)
    active = names.index(call.name) if call.name in names else min(call.index, len(names) - 1)
    parameters = [types.ParameterInformation(n, s.doc or None) for n, s in call.arguments.items()]
    label = f"{_path(call.function)}({', '.join(names)})"
    return types.SignatureHelp([types.SignatureInformation(label, parameters=parameters)], 0, active)
