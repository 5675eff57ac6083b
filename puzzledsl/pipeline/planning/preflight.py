"""Check a run's external inputs before it starts.

Hours of measurement precede the first use of some texts; a missing text must be reported before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.checker.declarations.refines import measured_searches, refined_text
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of
from puzzledsl.pipeline.context import Context

READ_TEXT = ("bld", "score", "refine", "uptrain", "eval")
"""Stages that read text, with the parent's tokenizer."""


def missing(ctx: Context, wanted: Callable[[str], bool]) -> list[Diagnostic]:
    """Everything that the wanted stages would not find, each once, in the order of the declarations."""
    return [*_parents(ctx, wanted), *_texts(ctx, wanted), *_tasks(ctx, wanted)]


def _readers(ctx: Context, wanted: Callable[[str], bool]) -> Iterator[nodes.Bld | nodes.Uptrain | nodes.Eval]:
    for stage, declared in (
        ("bld", ctx.program.blds),
        ("uptrain", ctx.program.uptrains),
        ("eval", ctx.program.evals),
    ):
        if wanted(stage):
            yield from declared.values()


def _methods(ctx: Context, wanted: Callable[[str], bool]) -> Iterator[tuple[nodes.Score, nodes.ReplaceOne]]:
    for score in ctx.program.scores.values():
        if wanted("score") and isinstance(score.method, nodes.ReplaceOne):
            yield score, score.method


def _texts(ctx: Context, wanted: Callable[[str], bool]) -> Iterator[Diagnostic]:
    from puzzledsl.data.documents import files_of

    names = {reader.data for reader in _readers(ctx, wanted)}
    names |= {method.data for _, method in _methods(ctx, wanted)}
    if wanted("eval"):
        names |= {data for declaration in ctx.program.evals.values() for data in declaration.more_data}
    if wanted("refine"):
        names |= {refined_text(ctx.program, search) for search in measured_searches(ctx.program)}
    for name, data in ctx.program.data.items():
        if name in names:
            try:
                files_of(data, ctx.base)
            except DiagnosticError as error:
                yield from error.diagnostics


def _tasks(ctx: Context, wanted: Callable[[str], bool]) -> Iterator[Diagnostic]:
    from puzzledsl.data.errors import TasksMissing

    named = [(m.tasks, score.where) for score, m in _methods(ctx, wanted) if m.tasks]
    if wanted("eval"):
        named += [(task, e.where) for e in ctx.program.evals.values() for task in e.tasks]
    for path, where in dict(named).items():
        if not (ctx.base / path).is_file():
            yield TasksMissing(span_of(where), file=path, reason="no such file")


def _parents(ctx: Context, wanted: Callable[[str], bool]) -> Iterator[Diagnostic]:
    from puzzledsl.models.families.errors import NoCheckpoint

    if not any(wanted(stage) for stage in READ_TEXT):
        return
    for parent, space in {
        ctx.program.spaces[b.space].parent: b.space for b in ctx.program.blds.values()
    }.items():
        try:
            folder = ctx.parent_directory(space, "bld")
        except DiagnosticError as error:
            yield from error.diagnostics
            continue
        if not any(folder.glob("tokenizer*")):
            where = ctx.program.parents[parent].where
            yield NoCheckpoint(span_of(where), path=folder, reason="it has no tokenizer")
