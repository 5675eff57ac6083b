"""`score`, and its `runs` (consecutive layers that are dropped together) and `healed` (scores after healing)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    arguments_of,
    call_of,
    check_parts,
    declaration,
    head,
    space_info,
    target,
)
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.space_errors import NoRunToDrop
from puzzledsl.checker.expressions.settings import Settings, from_call, lower, read_call
from puzzledsl.checker.expressions.values import Constructed, Poison, RangeValue, Symbol, describe
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.ir.layer_runs import can_drop
from puzzledsl.syntax import tree

FITTED_CHILDREN, FITTED_FROM_SAMPLES = 24, 1024
"""KLs in the parent are fitted to so many children, unless said, where so many positions are scored, and no
runs: with 1,024 of them the fit finds SmolLM2's better children, with 256 the plain sum does."""
SHORTEST, LONGEST = 2, 8  # the longest is that of the example which messages give
NOT_WITH_RUNS = {
    "children": "a fit scales the scores of single layers, and those of runs are measured as they are: leave one of both out",
    "around": "runs are measured in the parent: score around a child without `runs`",
}
NOT_WITH_HEALED = {
    "children": "a fit is to children that nobody has healed: leave one of both out",
    "around": "layers are healed in the parent: score around a child without `healed`",
}


def lower_score(ctx: Context, symbol: Symbol) -> nodes.Score | None:
    """`score kl of b = replace_one(kl_divergence, …)` or `table("scores.csv")`."""
    check_parts(ctx, symbol)
    of, call = target(ctx, symbol), call_of(ctx, symbol)
    bld = ctx.lower(of, nodes.Bld) if of is not None and of.kind == "bld" else None
    method = None if call is None else _method(ctx, symbol, call, of, bld)
    if of is None or method is None:
        return None
    ctx.lower_later(of)
    if of.kind == "bld" and bld is None:
        return None
    space = ctx.name_of(of) if bld is None else bld.space
    return nodes.Score(**head(ctx, symbol), bld=None if bld is None else bld.name, space=space, method=method)


def _method(
    ctx: Context, symbol: Symbol, call: Constructed, of: Symbol | None, bld: nodes.Bld | None
) -> nodes.ReplaceOne | nodes.ScoreFromTable | None:
    settings = arguments_of(ctx, symbol, call)
    if call.name == "table":
        table = lower(settings, nodes.ScoreFromTable)
        return None if settings.failed else table
    if of is not None and of.kind == "space":
        place = declaration(symbol).target
        assert place is not None
        help = "replacing one block needs its pieces: `score kl of BLD = replace_one(…)`"
        error = name_errors.WrongKind(place.span, name=of.name, got="a space", wanted="a bld", help=help)
        ctx.report(error)
    settings.need("metric")
    metric = _metric(ctx, settings)
    runs = _runs(ctx, settings, metric["metric"], of if bld is not None else None)
    healed = _healed(ctx, settings, metric["metric"])
    enough = settings.read("samples") >= FITTED_FROM_SAMPLES
    plain = metric["metric"] == "kl_divergence" and not settings.has("around") and runs is None and not healed
    return lower(
        settings,
        nodes.ReplaceOne,
        **metric,
        unit=_unit(ctx, settings, bld),
        children=settings.read("children", FITTED_CHILDREN if enough and plain else 0),
        runs=runs,
        healed=healed,
        data=settings.read("data", None if bld is None else bld.data),
    )


def _metric(ctx: Context, settings: Settings) -> dict[str, Any]:
    """The metric, its tasks and the number of tokens that it compares, where it has them."""
    usual = {"metric": "kl_divergence"}
    if not settings.has("metric"):
        return usual
    entry, takes = settings.entry("metric"), settings.known("metric")
    name = entry.expr.text if isinstance(entry.expr, tree.Name) else ""
    if name == "top_k_agreement":
        return {"metric": name, "top_k": 1}
    if name in takes.calls and name != "accuracy":
        return {"metric": name}
    call = read_call(ctx, entry.expr, entry.scope, takes)
    if call is None:
        return usual
    arguments = from_call(ctx, call, takes.calls[call.name])
    arguments.need_all()
    names = {"k": "top_k", "tasks": "tasks"}
    return {"metric": call.name, **{names[key]: arguments.read(key) for key in arguments.table}}


def _unit(ctx: Context, settings: Settings, bld: nodes.Bld | None) -> str:
    """Coupled pieces are measured as blocks; decoupled ones as sub-blocks unless asked otherwise."""
    coupled = bld is not None and bld.mode == "coupled"
    unit: str = settings.read("unit", "block" if coupled else "subblock")
    if coupled and unit == "subblock":
        what, place = "`unit: subblock`", settings.place("unit")
        help = "a coupled piece holds attention and FFN together: leave `unit` out"
        ctx.report(name_errors.Misplaced(place, what=what, where="a score of coupled pieces", help=help))
    return unit


# ---------------------------------------------------------------- runs, and scores after healing


def _healed(ctx: Context, settings: Settings, metric: str) -> int:
    """The tokens that the layer behind each replacement is healed on; 0 where none is."""
    healed: int = settings.read("healed")
    if healed:
        _refuse_beside(ctx, settings, "a score after healing", NOT_WITH_HEALED)
        _refuse_tasks(ctx, settings, metric, "healed", "scores after healing are measured on text")
    return healed


def _refuse_beside(ctx: Context, settings: Settings, where: str, helps: Mapping[str, str]) -> None:
    for key, help in helps.items():
        if settings.has(key) and (settings.read(key) or key == "around"):
            ctx.report(name_errors.Misplaced(settings.place(key), what=f"`{key}`", where=where, help=help))


def _refuse_tasks(ctx: Context, settings: Settings, metric: str, key: str, measured: str) -> None:
    if metric == "accuracy":
        help = f"{measured}: `kl_divergence`, `lm_loss`, `cosine` or `top_k_agreement`"
        where = "a score of `accuracy`"
        ctx.report(name_errors.Misplaced(settings.place(key), what=f"`{key}`", where=where, help=help))


def _runs(ctx: Context, settings: Settings, metric: str, bld: Symbol | None) -> tuple[int, int] | None:
    """The least and the most layers of a run; None where none are asked for, or there is a mistake (it is reported)."""
    if not settings.has("runs"):
        return None
    symbol = None if bld is None else target(ctx, bld)
    space = None if symbol is None else ctx.lower(symbol, nodes.Space)
    ends = _ends(ctx, settings, LONGEST if space is None else min(LONGEST, len(space.layers)))
    _refuse_beside(ctx, settings, "a score of runs", NOT_WITH_RUNS)
    _refuse_tasks(ctx, settings, metric, "runs", "runs are measured on text")
    info = None if symbol is None else space_info(ctx, symbol)
    return (
        ends
        if ends is None or space is None or info is None or _fits(ctx, settings, ends, space, info)
        else None
    )


def _ends(ctx: Context, settings: Settings, longest: int) -> tuple[int, int] | None:
    found, span = settings.value("runs"), settings.place("runs")
    if isinstance(found, Poison):
        return None
    example = f"write `runs: {SHORTEST}..{longest}`"
    if not isinstance(found, RangeValue) or found.low.dimension != COUNT or found.low.form == "times":
        got = f"{found.low}..{found.high}" if isinstance(found, RangeValue) else describe(found)
        wanted = "a range of numbers of layers"
        ctx.report(types.WrongType(span, what="`runs`", wanted=wanted, got=got, help=example))
        return None
    low, high = found.low.value, found.high.value
    if found.step is not None:
        help = f"every length from the least to the most is measured: {example}"
        ctx.report(name_errors.Misplaced(span, what="`step`", where="`runs`", help=help))
        return None
    whole = low.denominator == high.denominator == 1
    if not whole or not SHORTEST <= low <= high:
        condition, got = f"whole numbers from {SHORTEST} on, the least first", f"{found.low}..{found.high}"
        ctx.report(types.OutOfRange(span, what="`runs`", condition=condition, got=got, help=example))
        return None
    return int(low), int(high)


def _fits(
    ctx: Context, settings: Settings, ends: tuple[int, int], space: nodes.Space, info: SpaceInfo
) -> bool:
    """True where the space can drop a run of the shortest length, and the parent has as many layers as the longest."""
    (low, high), span = ends, settings.place("runs")
    if high > len(space.layers):
        condition = f"{SHORTEST} to {len(space.layers)}, the parent's layers"
        what, help = "a run of layers", f"write `runs: {min(low, len(space.layers))}..{len(space.layers)}`"
        ctx.report(types.OutOfRange(span, what=what, condition=condition, got=str(high), help=help))
        return False
    stretches = groupby(can_drop(space.layers, info.shape))
    longest = max((len([*layers]) for droppable, layers in stretches if droppable), default=0)
    if longest < low:
        ctx.report(NoRunToDrop(span, space=space.name, length=low))
    return longest >= low
