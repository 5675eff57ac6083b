"""Check a run's external inputs before it starts.

Hours of measurement precede the first use of some texts; a missing text must be reported before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.task import Task
from puzzledsl.pipeline.tasks import TASKS

FIRST_DOCUMENTS = 64
BYTES_A_TOKEN = 16
"""Bytes of text a token at most: one with more is certainly long enough."""


def missing(ctx: Context, wanted: Callable[[str], bool]) -> list[Diagnostic]:
    """Return everything that the wanted stages would not find, each once, in the order of the declarations."""
    kinds = [kind for kind in TASKS.values() if wanted(kind.stage)]
    tasks = [kind(ctx, name) for kind in kinds for name in kind.declared(ctx.program)]
    parents = _parents(ctx) if any(kind.reads_text for kind in kinds) else ()
    found = [*parents, *_texts(ctx, tasks), *_items(ctx, tasks), *(p for task in tasks for p in task.lacks())]
    return found or list(_unreadable(ctx, tasks)) or list(_too_short(ctx, tasks))


def _texts(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    from puzzledsl.data.counts import parts_of
    from puzzledsl.data.documents import files_of

    names = {name for task in tasks for name in task.texts()}
    for name, data in ctx.program.data.items():
        for part, _ in parts_of(data) if name in names else ():
            try:
                files_of(part, ctx.base)
            except DiagnosticError as error:
                yield from error.diagnostics


def _unreadable(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    """Yield mistakes in the first documents of sources not tokenised yet: they do not wait for the stage that reads them."""
    from puzzledsl.data.counts import parts_of
    from puzzledsl.data.documents import Place
    from puzzledsl.data.streams import path_of, try_first
    from puzzledsl.models.families.load import load_tokenizer

    read: dict[str, tuple[nodes.Data, Task]] = {}
    for task in tasks:
        for name in task.texts() if ctx.stamps.read(task.stage, task.name) is None else ():
            if (data := ctx.program.data.get(name or "")) is not None:
                for part, _ in parts_of(data):
                    read.setdefault(part.source.model_dump_json(), (part, task))
    for part, task in read.values():
        place = Place.of(part, ctx.base)
        try:
            tokenizer = load_tokenizer(ctx.parent_directory(task.space, task.stage))
            if not path_of(place, tokenizer, ctx.build.tokens).is_file():
                try_first(place, tokenizer, FIRST_DOCUMENTS)
        except DiagnosticError as error:
            yield from error.diagnostics


def _too_short(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    """Yield each text that a task would find too short. Only short texts are tokenised, and their tokens are kept."""
    from puzzledsl.data.errors import MixTooShort, NotEnoughText
    from puzzledsl.data.streams import token_rows
    from puzzledsl.models.families.load import load_tokenizer

    said: set[str] = set()
    for task in tasks:
        for name, tokens, context in task.budgets():
            data = ctx.program.data.get(name or "")
            if data is None or data.name in said or not _may_be_short(data, ctx, tokens):
                continue
            given = data, ctx.base, load_tokenizer(ctx.parent_directory(task.space, task.stage))
            kept, progress = ctx.build.tokens, ctx.progress
            try:
                token_rows(*given, context=context, tokens=tokens, seed=0, cache=kept, progress=progress)
            except DiagnosticError as error:
                short = [
                    problem for problem in error.diagnostics if problem.kind in (NotEnoughText, MixTooShort)
                ]
                if not short:
                    raise
                said.add(data.name)
                yield from short


def _may_be_short(data: nodes.Data, ctx: Context, tokens: int) -> bool:
    """Return True if one part takes too few tokens, or has so few bytes in its files that its share may not be in them."""
    from puzzledsl.data.counts import parts_of
    from puzzledsl.data.documents import files_of

    parts = parts_of(data)
    weights = sum(weight for _, weight in parts)
    for part, weight in parts:
        assert not isinstance(part.source, nodes.MixData)
        share, (low, high) = tokens * weight / weights, part.source.part or (0, 1)
        if part.source.take is not None and part.source.take < share:
            return True
        files = files_of(part, ctx.base)
        read = sum(path.stat().st_size for path in files) * (high - low)
        if files and read < BYTES_A_TOKEN * share:
            return True
    return False


def _items(ctx: Context, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    from puzzledsl.data.errors import TasksMissing

    for path, where in dict(found for task in tasks for found in task.items()).items():
        if not (ctx.base / path).is_file():
            yield TasksMissing(span_of(where), file=path, reason="no such file")


def _parents(ctx: Context) -> Iterator[Diagnostic]:
    from puzzledsl.models.errors import NoCheckpoint

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
