"""Lint of unused names. Two conditions: no evaluation used the name, and the word occurs nowhere else in the text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import UnusedImport, UnusedName
from puzzledsl.checker.expressions.values import SourceFile, Symbol
from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.syntax import tree

_NEVER_AN_END = {"let", "param", "fn", "parent", "hardware", "data"}
"""Kinds that are useful only to other declarations; a space, a score or an export can be the purpose of a program."""


def warn_of_unused(ctx: Context, program: nodes.Program) -> None:
    """Report unused names of the main file. A file without a search is a library, whose names are for others: skipped."""
    file = ctx.root
    if not program.searches:
        return
    words = _words(file)
    referred = set(_referred(program))
    for symbol in file.names.values():
        if not isinstance(symbol, Symbol) or symbol.file is not file or symbol.kind not in _NEVER_AN_END:
            continue
        if _is_unused(symbol.name, words) and symbol.name not in referred:
            ctx.report(UnusedName(symbol.span, kind=symbol.kind, name=symbol.name))
    for let in _local_lets(file):
        if _is_unused(let.name.text, words):
            ctx.report(UnusedName(let.name.span, kind="let", name=let.name.text))
    for item in file.module.items:
        if isinstance(item, tree.Use):
            _unused_imports(ctx, item, words)


def _is_unused(name: str, words: Counter[str]) -> bool:
    return words[name] == 1 and not name.startswith("_")


def _words(file: SourceFile) -> Counter[str]:
    """Count the occurrences of each word in a file without comments. Words in strings count as uses."""
    lines = (line if '"' in line else line.partition("#")[0] for line in file.lines)
    return Counter(re.findall(r"\w+", "\n".join(lines)))


def _referred(program: nodes.Program) -> Iterator[str]:
    """Yield the names that declarations refer to, explicitly or by default."""
    tables: list[dict[str, Any]] = [
        program.data,
        program.scenarios,
        program.spaces,
        program.blds,
        program.scores,
    ]
    tables += [program.searches, program.uptrains, program.evals, program.exports]
    for table in tables:
        for node in table.values():
            yield from references(node)


def _local_lets(file: SourceFile) -> Iterator[tree.Let]:
    """Yield the `let`s of bodies."""
    for item in file.module.items:
        if isinstance(item, tree.Decl):
            yield from _lets_of(item.body or ())


def _lets_of(body: tuple[tree.Stmt, ...]) -> Iterator[tree.Let]:
    for statement in body:
        if isinstance(statement, tree.Let):
            yield statement
        elif isinstance(statement, tree.ForAll | tree.Section):
            yield from _lets_of(statement.body)


def _unused_imports(ctx: Context, use: tree.Use, words: Counter[str]) -> None:
    unused = [name for name in use.names if _is_unused(name.text, words)]
    for name in unused:
        place = use.names.index(name)
        if len(unused) == len(use.names):
            fixes = [Fix.replace(use.span, "", "remove this `use`", safe=False)]
        elif place + 1 < len(use.names):
            fixes = [
                Fix.replace(_between(name.span.start, use.names[place + 1].span.start), "", "leave it out")
            ]
        else:
            fixes = [Fix.replace(_between(use.names[place - 1].span.end, name.span.end), "", "leave it out")]
        ctx.report(UnusedImport(name.span, name=name.text, path=use.path.value, fixes=fixes))


def _between(start: Span, end: Span) -> Span:
    return Span(start.file, start.line, start.column, end.line, end.column)
