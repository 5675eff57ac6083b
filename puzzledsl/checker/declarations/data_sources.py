"""Sources of a data declaration: the arguments of `text(…)`, `jsonl(…)`, `parquet(…)`, `hf(…)`, `tasks(…)` and `sampled(…)`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, cast

from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.prompts import prompts_file
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.expressions.values import Constructed, Poison, RangeValue, describe
from puzzledsl.ir import nodes
from puzzledsl.language.calls import DATA_SOURCES

PART_EXAMPLE = "0%..95%"
MIN_TEMPERATURE, MAX_TEMPERATURE = Fraction(1, 100), Fraction(100)
DEFAULT_LENGTH = 512


def lower_source(ctx: Context, call: Constructed) -> nodes.PlainData | None:
    """Return the source that a call names; None, reported, if it has mistakes."""
    settings = from_call(ctx, call, DATA_SOURCES[call.name])
    source = READERS[call.name](settings)
    return None if settings.failed else source


def picked(settings: Settings) -> dict[str, Any]:
    """Return the fields of `nodes.Picked`: which of the source's documents are meant."""
    found: dict[str, Any] = {}
    if settings.has("part"):
        found["part"] = _part(settings)
    if settings.has("take"):
        found["take"] = settings.whole("take", 0, 1)
    if settings.has("duplicates"):
        found["duplicates"] = cast(Literal["drop", "keep"], settings.word("duplicates", "drop"))
    return found


def rows(settings: Settings) -> dict[str, Any]:
    """Return the fields of `nodes.Rows`, and the column of plain text."""
    found = {**picked(settings), "column": settings.column("column", "text")}
    loss = cast(Literal["all", "answers"], settings.word("loss", "all"))
    if settings.has("messages"):
        found |= {"messages": settings.column("messages", "messages"), "loss": loss}
        if settings.has("column"):
            _misplaced(settings, "column", "a document is a text in `column` or a conversation in `messages`")
    elif settings.has("loss"):
        _misplaced(settings, "loss", "name the field of the conversations: `messages: messages`")
    return found


def _misplaced(settings: Settings, key: str, help: str) -> None:
    where = f"{settings.thing} {'with' if settings.has('messages') else 'without'} `messages`"
    settings.ctx.report(
        name_errors.Misplaced(settings.entry(key).span, what=f"`{key}`", where=where, help=help)
    )
    settings.failed = True


def _part(settings: Settings) -> tuple[Fraction, Fraction] | None:
    value, place = settings.value("part"), settings.place("part")
    if isinstance(value, Poison):
        return None
    settings.failed = True
    ends = (value.low, value.high) if isinstance(value, RangeValue) else ()
    if not isinstance(value, RangeValue) or any(e.dimension != COUNT or e.form == "times" for e in ends):
        help = f"write `part: {PART_EXAMPLE}`"
        got = describe(value)
        settings.ctx.report(
            types.WrongType(place, what="`part`", wanted="a range of shares", got=got, help=help)
        )
        return None
    low, high = value.low.value, value.high.value
    if not 0 <= low < high <= 1 or value.step is not None:
        condition, got = "a range within 0%..100%", settings.ctx.source(place)
        settings.ctx.report(types.OutOfRange(place, what="`part`", condition=condition, got=got))
        return None
    settings.failed = False
    return low, high


# ---------------------------------------------------------------- one reader a source


def _paths(settings: Settings) -> tuple[str, ...]:
    settings.need("path", help=f'write {settings.thing[:-1]}("…")`')
    return tuple(settings.text(key) for key in settings.entries if key == "path" or key.isdigit())


def _text(settings: Settings) -> nodes.TextData:
    return nodes.TextData(paths=_paths(settings), **picked(settings))


def _jsonl(settings: Settings) -> nodes.JsonlData:
    return nodes.JsonlData(paths=_paths(settings), **rows(settings))


def _parquet(settings: Settings) -> nodes.ParquetData:
    return nodes.ParquetData(paths=_paths(settings), **rows(settings))


def _tasks(settings: Settings) -> nodes.TaskData:
    return nodes.TaskData(paths=_paths(settings), **picked(settings))


def _hf(settings: Settings) -> nodes.HfData:
    settings.need("id", help='write `hf("…")`')
    subset = settings.column("subset", "") if settings.has("subset") else None
    revision = settings.text("revision") if settings.has("revision") else None
    split = settings.column("split", "train")
    return nodes.HfData(
        id=settings.text("id"), split=split, subset=subset, revision=revision, **rows(settings)
    )


def _sampled(settings: Settings) -> nodes.SampledData:
    settings.need("parent", "tokens", help="write `sampled(p, tokens: 1M)`, where `p` is a parent")
    parent = settings.ref("parent")
    if parent is not None:
        settings.ctx.lower_later(parent)
    temperature = settings.quantity("temperature", COUNT, Fraction(1), MIN_TEMPERATURE, MAX_TEMPERATURE)
    dtype = cast(Literal["fp32", "bf16"], settings.word("dtype", "fp32")) if settings.has("dtype") else None
    prompts = prompts_file(settings.ctx, settings) if settings.has("prompts") else None
    settings.failed |= prompts == ""
    return nodes.SampledData(
        parent="" if parent is None else settings.ctx.name_of(parent),
        tokens=settings.whole("tokens", 1, 1),
        temperature=float(temperature),
        prompts=prompts,
        length=settings.whole("length", DEFAULT_LENGTH, 1),
        top_k=settings.whole("top_k", 1, 1) if settings.has("top_k") else None,
        seed=settings.whole("seed", 0),
        dtype=dtype,
        **picked(settings),
    )


READERS: dict[str, Callable[[Settings], nodes.PlainData]] = {
    "text": _text,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "hf": _hf,
    "sampled": _sampled,
    "tasks": _tasks,
}
"""Call -> its reader, which returns a node or reports; a failed setting makes the node unusable."""
