"""Check a run's external inputs before it starts.

Hours of measurement precede the first use of some texts; a missing text must be reported before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.ir.source_location import span_of
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.task import Task
from puzzledsl.pipeline.tasks import TASKS


def missing(ctx: Context, wanted: Callable[[str], bool]) -> list[Diagnostic]:
    """Return everything that the wanted stages would not find, each once, in the order of the declarations."""
    kinds = [kind for kind in TASKS.values() if wanted(kind.stage)]
    tasks = [kind(ctx, name) for kind in kinds for name in kind.declared(ctx.program)]
    parents = _parents(ctx) if any(kind.reads_text for kind in kinds) else ()
    return [*parents, *_texts(ctx, tasks), *_items(ctx, tasks)]


def _texts(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    from puzzledsl.data.documents import files_of

    names = {name for task in tasks for name in task.texts()}
    for name, data in ctx.program.data.items():
        if name in names:
            try:
                files_of(data, ctx.base)
            except DiagnosticError as error:
                yield from error.diagnostics


def _items(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    from puzzledsl.data.errors import TasksMissing

    for path, where in dict(found for task in tasks for found in task.items()).items():
        if not (ctx.base / path).is_file():
            yield TasksMissing(span_of(where), file=path, reason="no such file")


def _parents(ctx: Context) -> Iterator[Diagnostic]:
    from puzzledsl.models.families.errors import NoCheckpoint

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
