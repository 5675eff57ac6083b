"""Lint of shadowed names: a body's `let` or `for`, a `fn` parameter or a declaration that hides another name."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Label
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import Shadowing
from puzzledsl.checker.expressions.values import SourceFile, Symbol
from puzzledsl.checker.names.builtins import VALUES
from puzzledsl.checker.names.occurrences import occurrences
from puzzledsl.language.words import SPACE_WORDS
from puzzledsl.syntax import tree


def warn_of_shadowing(ctx: Context, file: SourceFile) -> None:
    """Report the names of one file that hide others. The variable of a comprehension is left alone: it is seen nowhere else."""
    for occurrence in occurrences(file):
        span, name, before = occurrence.span, occurrence.name, file.names.get(occurrence.name)
        if occurrence.role != "declares" or isinstance(occurrence.node, tree.Comprehension):
            continue
        is_local = before is not occurrence.symbol
        if is_local and isinstance(before, Symbol):
            what = f"{'an' if before.kind[0] in 'aeiou' else 'a'} {before.kind} of that name"
            label = Label(before.span, "hidden there")
            ctx.report(Shadowing(span, name=name, what=what, secondary=[label]))
        elif name in VALUES or (is_local and name in SPACE_WORDS):
            ctx.report(Shadowing(span, name=name, what="a word of the language"))
