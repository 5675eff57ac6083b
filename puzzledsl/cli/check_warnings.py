"""Warnings that only `pzl check` gives: of texts that are missing or used twice.

Later stages read the files that are looked at here; the checker does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import matching
from puzzledsl.base.phrases import listed
from puzzledsl.checker.context import Context
from puzzledsl.ir import nodes
from puzzledsl.ir.references import overlap, references, sources_of

TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
"""Files and folders of a tokenizer that have a chat template."""


def check_warnings(ctx: Context, program: nodes.Program) -> list[Diagnostic]:
    """Return every warning."""
    readers = _users(program)
    return [
        *_missing_files(ctx, program, readers),
        *_without_template(ctx, program, readers),
        *_measured_on(ctx, program),
    ]


# ---------------------------------------------------------------- text that is missing


def _users(program: nodes.Program) -> dict[str, list[str]]:
    """Return for each data set the declarations of stages that read it, directly or as a part of another."""
    stages: dict[str, Mapping[str, object]] = {
        "bld": program.blds,
        "score": program.scores,
        "judge": program.judges,
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


def _missing_files(
    ctx: Context, program: nodes.Program, readers: Mapping[str, list[str]]
) -> Iterator[Diagnostic]:
    """Yield a warning for each path or glob of a text, or of a task's items, that matches no file."""
    from puzzledsl.data.errors import FileMissing

    for pattern, where, who in (*_texts(program, readers), *_items(program)):
        if not matching(ctx.root.path.parent, pattern):
            yield FileMissing(ctx.span_of(where), pattern=pattern, readers=who)


def _texts(
    program: nodes.Program, readers: Mapping[str, list[str]]
) -> Iterator[tuple[str, nodes.Where, str]]:
    for name, data in program.data.items():
        if name in readers:
            who = listed(readers[name], "and")
            yield from ((path, data.where, who) for path in dict.fromkeys(_own_paths(data)))


def _own_paths(data: nodes.Data) -> Iterator[str]:
    """Yield the paths of a text; those of a mix are its parts'."""
    if isinstance(data.source, nodes.TextData | nodes.JsonlData | nodes.ParquetData | nodes.TaskData):
        yield from data.source.paths


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


# ---------------------------------------------------------------- text that a stage cannot use, or uses twice


def _without_template(
    ctx: Context, program: nodes.Program, readers: Mapping[str, list[str]]
) -> Iterator[Diagnostic]:
    """Yield a warning for each text whose conversations a parent has no chat template for."""
    from puzzledsl.data.errors import TemplateNotThere

    parents = [p.source.id for p in program.parents.values() if isinstance(p.source, nodes.HfSource)]
    lacking = [path for path in parents if _lacks_template(ctx.root.path.parent / path)]
    for name, data in program.data.items():
        chats = (isinstance(s, nodes.Rows) and s.messages is not None for s in sources_of(data))
        for path in lacking if name in readers and any(chats) else ():
            yield TemplateNotThere(
                ctx.span_of(data.where), name=name, path=path, readers=listed(readers[name])
            )


def _lacks_template(folder: Path) -> bool:
    """Return True for a checkpoint's directory whose tokenizer has no chat template."""
    if not any(folder.glob("tokenizer*")) or any((folder / name).exists() for name in TEMPLATES):
        return False
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and not config.get("chat_template")


def _measured_on(ctx: Context, program: nodes.Program) -> Iterator[Diagnostic]:
    """Yield a warning for each text of an evaluation that something is trained on."""
    from puzzledsl.data.errors import EvaluatedOnTrainingText

    only = next(iter(program.data)) if len(program.data) == 1 else None
    learners: dict[str, list[str]] = {}
    for bld in program.blds.values():
        for name in dict.fromkeys((bld.data, bld.heal_data if bld.heal_tokens else None)):
            if name is not None:
                learners.setdefault(name, []).append(f"bld `{bld.name}`")
    for uptrain in program.uptrains.values():
        if (name := uptrain.data or only) is not None:
            learners.setdefault(name, []).append(f"uptrain `{uptrain.name}`")
    for evaluation in program.evals.values():
        span = ctx.span_of(evaluation.where)
        for text in filter(None, (evaluation.data or only, *evaluation.more_data)):
            met = [name for name in learners if overlap(program.data[name], program.data[text])]
            if found := dict.fromkeys(reader for name in met for reader in learners[name]):
                yield EvaluatedOnTrainingText(span, name=evaluation.name, text=text, readers=listed(found))
