"""Warnings that only `pzl check` gives: of texts that are missing or used twice.

Later stages read the files that are looked at here; the checker does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import matching
from puzzledsl.base.phrases import listed
from puzzledsl.checker.context import Context
from puzzledsl.ir import nodes
from puzzledsl.ir.references import overlap, readers_of

LEARNERS = ("bld ", "uptrain ")
Readers = Mapping[str, list[str]]


def check_warnings(ctx: Context, program: nodes.Program) -> list[Diagnostic]:
    """Return every warning."""
    readers = readers_of(program)
    evaluated = list(_measured_on(ctx, program, readers))
    for judge in program.judges.values():
        readers.setdefault(judge.data, []).append(f"judge `{judge.name}`")
    for name, data in program.data.items():
        for part in data.source.parts if isinstance(data.source, nodes.MixData) else ():
            readers.setdefault(part.name, []).extend(readers.get(name, ()))
    return [*_missing_files(ctx, program, readers), *evaluated]


def _missing_files(ctx: Context, program: nodes.Program, readers: Readers) -> Iterator[Diagnostic]:
    """Yield a warning for each path or glob of a text, or of a task's items, that matches no file."""
    from puzzledsl.data.errors import FileMissing

    for pattern, where, who in (*_texts(program, readers), *_items(program)):
        if not matching(ctx.root.path.parent, pattern):
            yield FileMissing(ctx.span_of(where), pattern=pattern, readers=who)


def _texts(program: nodes.Program, readers: Readers) -> Iterator[tuple[str, nodes.Where, str]]:
    """Yield the paths of texts that are read; those of a mix are its parts'."""
    for name, data in program.data.items():
        if readers.get(name) and not isinstance(data.source, nodes.MixData | nodes.HfData):
            who = listed(dict.fromkeys(readers[name]))
            yield from ((path, data.where, who) for path in dict.fromkeys(data.source.paths))


def _items(program: nodes.Program) -> Iterator[tuple[str, nodes.Where, str]]:
    for name, evaluation in program.evals.items():
        given = evaluation.prompts.path if evaluation.prompts is not None else None
        paths = (*evaluation.tasks, *([given] if given else ()))
        yield from ((path, evaluation.where, f"eval `{name}`") for path in paths)
    for name, judge in program.judges.items():
        yield from ((path, judge.where, f"judge `{name}`") for path in judge.tasks)
    for name, score in program.scores.items():
        if isinstance(score.method, nodes.ReplaceOne) and score.method.tasks:
            yield score.method.tasks, score.where, f"score `{name}`"


def _measured_on(ctx: Context, program: nodes.Program, readers: Readers) -> Iterator[Diagnostic]:
    """Yield a warning for each text of an evaluation that something is trained on."""
    from puzzledsl.data.errors import EvaluatedOnTrainingText

    learners = {name: [who for who in read if who.startswith(LEARNERS)] for name, read in readers.items()}
    only = next(iter(program.data)) if len(program.data) == 1 else None
    for evaluation in program.evals.values():
        span = ctx.span_of(evaluation.where)
        for text in filter(None, (evaluation.data or only, *evaluation.more_data)):
            met = [name for name in learners if overlap(program.data[name], program.data[text])]
            if found := dict.fromkeys(reader for name in met for reader in learners[name]):
                yield EvaluatedOnTrainingText(span, name=evaluation.name, text=text, readers=listed(found))
