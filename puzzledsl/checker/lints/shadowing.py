"""Lint of shadowed names: a body's `let` or `for`, a `fn` parameter or a declaration that hides another name."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.base.diagnostics import Label
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import Shadowing
from puzzledsl.checker.expressions.values import SourceFile, Symbol
from puzzledsl.checker.names.builtins import VALUES
from puzzledsl.language.words import SPACE_WORDS
from puzzledsl.syntax import tree


def warn_of_shadowing(ctx: Context, file: SourceFile) -> None:
    """Report the names of one file that hide others."""
    for symbol in file.names.values():
        if isinstance(symbol, Symbol) and symbol.file is file and symbol.name in VALUES:
            ctx.report(Shadowing(symbol.span, name=symbol.name, what="a word of the language"))
    for name in _local_names(file):
        before = file.names.get(name.text)
        if isinstance(before, Symbol):
            label = Label(before.span, "hidden there")
            ctx.report(
                Shadowing(
                    name.span, name=name.text, what=f"{_a(before.kind)} of that name", secondary=[label]
                )
            )
        elif name.text in (*SPACE_WORDS, *VALUES):
            ctx.report(Shadowing(name.span, name=name.text, what="a word of the language"))


def _local_names(file: SourceFile) -> Iterator[tree.Name]:
    """Yield the names that bodies and functions bind."""
    for item in file.module.items:
        if isinstance(item, tree.Fn):
            yield from item.parameters
        elif isinstance(item, tree.Decl):
            yield from _bound_in(item.body or ())


def _bound_in(body: tuple[tree.Stmt, ...]) -> Iterator[tree.Name]:
    for statement in body:
        match statement:
            case tree.Let():
                yield statement.name
            case tree.ForAll():
                yield statement.variable
                yield from _bound_in(statement.body)
            case tree.Section():
                yield from _bound_in(statement.body)


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
