"""Warn of text files that later stages read and that are not there. `pzl check` alone looks at files that it does not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import matching
from puzzledsl.base.phrases import listed
from puzzledsl.checker.context import Context
from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.ir.source_location import span_of


def missing_files(ctx: Context, program: nodes.Program) -> list[Diagnostic]:
    """Return a warning for each path or glob of a text, or of a task's items, that matches no file."""
    from puzzledsl.data.errors import FileMissing

    base, files = ctx.root.path.parent, {file.shown: file.file for file in ctx.loader.files.values()}
    readers = users(program)
    return [
        FileMissing(span_of(where, files.get(where.file)), pattern=pattern, readers=readers_of)
        for pattern, where, readers_of in (*_texts(program, readers), *_items(program))
        if not matching(base, pattern)
    ]


def users(program: nodes.Program) -> dict[str, list[str]]:
    """Return for each data set the declarations of stages that read it, directly or as a part of another."""
    stages: dict[str, Mapping[str, object]] = {
        "bld": program.blds,
        "score": program.scores,
        "search": program.searches,
        "uptrain": program.uptrains,
        "eval": program.evals,
    }
    found: dict[str, list[str]] = {}
    parts = {name: set(references(data)) & program.data.keys() for name, data in program.data.items()}
    for kind, declared in stages.items():
        for name, node in declared.items():
            for data in _with_parts(parts, set(references(node)) & program.data.keys()):
                found.setdefault(data, []).append(f"{kind} `{name}`")
    return found


def _with_parts(parts: Mapping[str, set[str]], names: set[str]) -> set[str]:
    """Return data sets and the parts of those that are mixtures. `parts`: those of each data set."""
    inner = set().union(*(parts[name] for name in names))
    return names | _with_parts(parts, inner) if inner - names else names | inner


def _texts(program: nodes.Program, readers: dict[str, list[str]]) -> Iterator[tuple[str, nodes.Where, str]]:
    for name, data in program.data.items():
        if name in readers:
            users = listed(readers[name], "and")
            yield from ((path, data.where, users) for path in dict.fromkeys(_own_paths(program, data)))


def _own_paths(program: nodes.Program, data: nodes.Data) -> Iterator[str]:
    """Yield the paths of a text and of those parts of a mix that have no declaration of their own."""
    parts = data.source.parts if isinstance(data.source, nodes.MixData) else ()
    for source in (data.source, *(part.source for part in parts if part.inline)):
        if isinstance(source, nodes.TextData | nodes.JsonlData | nodes.ParquetData | nodes.TaskData):
            yield from source.paths
        if isinstance(source, nodes.SampledData) and source.prompts:
            yield source.prompts


def _items(program: nodes.Program) -> Iterator[tuple[str, nodes.Where, str]]:
    for name, evaluation in program.evals.items():
        given = evaluation.prompts.path if evaluation.prompts is not None else None
        paths = (*evaluation.tasks, *([given] if given else ()))
        yield from ((path, evaluation.where, f"eval `{name}`") for path in paths)
    for name, score in program.scores.items():
        if isinstance(score.method, nodes.ReplaceOne) and score.method.tasks:
            yield score.method.tasks, score.where, f"score `{name}`"
