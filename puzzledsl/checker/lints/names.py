"""Lints of names: those that hide another name, and those that occur once, where they are declared or imported."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Fix, Label, Span
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import VALUES, SourceFile, Symbol
from puzzledsl.checker.names.occurrences import occurrences
from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.language.words import SPACE_WORDS
from puzzledsl.syntax import tree

_NEVER_AN_END = {"let", "param", "fn", "parent", "hardware", "data"}
"""Kinds that are useful only to other declarations; a space, a score or an export can be the purpose of a program."""


def warn_of_shadowing(ctx: Context, file: SourceFile) -> None:
    """Report the names of one file that hide others. The variable of a comprehension is left alone: it is seen nowhere else."""
    for occurrence in occurrences(file):
        span, name, before = occurrence.span, occurrence.name, file.names.get(occurrence.name)
        if occurrence.role != "declares" or isinstance(occurrence.node, tree.Comprehension):
            continue
        is_local = before is not occurrence.symbol
        if is_local and isinstance(before, Symbol):
            label = Label(before.span, "hidden there")
            what = f"{'an' if before.kind[0] in 'aeiou' else 'a'} {before.kind} of that name"
            ctx.report(errors.Shadowing(span, name=name, what=what, secondary=[label]))
        elif name in VALUES or (is_local and name in SPACE_WORDS):
            ctx.report(errors.Shadowing(span, name=name, what="a word of the language"))


def warn_of_unused(ctx: Context, program: nodes.Program) -> None:
    """Report unused names of the main file. A file without a search is a library, whose names are for others: skipped."""
    if not program.searches:
        return
    found = [(o, o.symbol) for o in occurrences(ctx.root) if isinstance(o.symbol, Symbol)]
    used = {s.place for o, s in found if o.role == "uses" and not isinstance(o.item, tree.Use)}
    tables = (program.data, program.scenarios, program.spaces, program.blds, program.scores)
    later = (program.searches, program.uptrains, program.evals, program.exports)
    # the names that declarations refer to, explicitly or by default
    referred = {name for table in (*tables, *later) for node in table.values() for name in references(node)}
    imports: dict[int, tuple[tree.Use, list[Span]]] = {}
    for occurrence, symbol in found:
        if symbol.place in used or symbol.name.startswith("_"):
            continue
        if isinstance(occurrence.item, tree.Use) and occurrence.role == "uses":
            imports.setdefault(id(occurrence.item), (occurrence.item, []))[1].append(occurrence.span)
        elif occurrence.role == "declares" and symbol.kind in _NEVER_AN_END and symbol.name not in referred:
            ctx.report(errors.UnusedName(symbol.span, kind=symbol.kind, name=symbol.name))
    for use, unused in imports.values():
        _unused_imports(ctx, use, unused)


def _unused_imports(ctx: Context, use: tree.Use, unused: list[Span]) -> None:
    for place, name in enumerate(use.names):
        if name.span not in unused:
            continue
        start, end = name.span.start, name.span.end
        if place + 1 < len(use.names):
            end = use.names[place + 1].span.start
        elif place:
            start = use.names[place - 1].span.end
        fix = Fix.replace(start.to(end), "", "leave it out")
        if len(unused) == len(use.names):
            fix = Fix.replace(use.span, "", "remove this `use`", safe=False)
        ctx.report(errors.UnusedImport(name.span, name=name.text, path=use.path.value, fixes=[fix]))
