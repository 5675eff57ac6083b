"""Warn of texts that later stages cannot use, or use twice, by looking at the files of parents and at what stages read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import assert_never

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.phrases import listed
from puzzledsl.checker.context import Context
from puzzledsl.cli.missing_files import users
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of

TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
"""Files and folders of a tokenizer that have a chat template."""


def text_warnings(ctx: Context, program: nodes.Program) -> list[Diagnostic]:
    """Return a warning for each text whose conversations a parent has no template for, or that is trained and measured on."""
    files = {file.shown: file.file for file in ctx.loader.files.values()}
    return [*_without_template(ctx, program, files), *_measured_on(program, files)]


# ---------------------------------------------------------------- chat templates


def _without_template(ctx: Context, program: nodes.Program, files: Mapping[str, str]) -> Iterator[Diagnostic]:
    from puzzledsl.data.errors import TemplateNotThere

    readers, base = users(program), ctx.root.path.parent
    parents = [p.source.id for p in program.parents.values() if isinstance(p.source, nodes.HfSource)]
    lacking = [path for path in parents if _lacks_template(base / path)]
    for name, data in program.data.items():
        if name in readers and any(_has_chats(source) for source in sources_of(data)):
            for path in lacking:
                span = span_of(data.where, files.get(data.where.file))
                yield TemplateNotThere(span, name=name, path=path, readers=listed(readers[name]))


def _has_chats(source: nodes.Picked) -> bool:
    return isinstance(source, nodes.Rows) and source.messages is not None


def _lacks_template(folder: Path) -> bool:
    """Return True for a checkpoint's directory whose tokenizer has no chat template."""
    if not any(folder.glob("tokenizer*")) or any((folder / name).exists() for name in TEMPLATES):
        return False
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and not config.get("chat_template")


# ---------------------------------------------------------------- text that is trained on


def _measured_on(program: nodes.Program, files: Mapping[str, str]) -> Iterator[Diagnostic]:
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
        span = span_of(evaluation.where, files.get(evaluation.where.file))
        for text in filter(None, (evaluation.data or only, *evaluation.more_data)):
            found = [
                reader
                for name, readers in learners.items()
                if _overlap(program.data[name], program.data[text])
                for reader in readers
            ]
            if found:
                readers_of = listed(dict.fromkeys(found))
                yield EvaluatedOnTrainingText(span, name=evaluation.name, text=text, readers=readers_of)


def _overlap(one: nodes.Data, other: nodes.Data) -> bool:
    """Return True if both read the same files or data set, in parts that meet."""
    return any(
        _places(a) & _places(b) and _parts_meet(a, b) for a in sources_of(one) for b in sources_of(other)
    )


def _places(source: nodes.PlainData) -> set[str]:
    match source:
        case nodes.HfData(id=id, subset=subset, split=split):
            return {f"{id} {subset} {split}"}
        case nodes.SampledData():
            return {source.text}
        case nodes.TextData() | nodes.JsonlData() | nodes.ParquetData() | nodes.TaskData():
            return set(source.paths)
        case _:
            assert_never(source)


def _parts_meet(one: nodes.Picked, other: nodes.Picked) -> bool:
    (low, high), (first, last) = one.part or (0, 1), other.part or (0, 1)
    return max(low, first) < min(high, last)


def sources_of(data: nodes.Data) -> tuple[nodes.PlainData, ...]:
    """Return the sources of a text: those of its parts, if it is a mix."""
    if isinstance(data.source, nodes.MixData):
        return tuple(part.source for part in data.source.parts)
    return (data.source,)
