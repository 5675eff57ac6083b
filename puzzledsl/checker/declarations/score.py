"""`score`, and its `runs` (consecutive layers that are dropped together) and `healed` (scores after healing)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from puzzledsl.base.diagnostics import Args
from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations import common
from puzzledsl.checker.diagnostics.name_errors import Misplaced, WrongKind
from puzzledsl.checker.diagnostics.space_errors import NoRunToDrop
from puzzledsl.checker.diagnostics.type_errors import OutOfRange
from puzzledsl.checker.expressions.settings import Settings, from_call, lower, read_call
from puzzledsl.checker.expressions.values import RangeValue, Symbol, describe
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
    common.check_parts(ctx, symbol)
    of, call = common.target(ctx, symbol), common.call_of(ctx, symbol)
    bld = ctx.lower(of, nodes.Bld) if of is not None and of.kind == "bld" else None
    settings = common.arguments_of(ctx, symbol, call)
    method: nodes.ReplaceOne | nodes.ScoreFromTable
    if call.name == "table":
        method = settings.sound(lower(settings, nodes.ScoreFromTable))
    else:
        place = common.declaration(symbol).target
        if of is not None and of.kind == "space" and place is not None:
            help = "replacing one block needs its pieces: `score kl of BLD = replace_one(…)`"
            said: Args = {"name": of.name, "got": "a space", "wanted": "a bld"}
            ctx.report(WrongKind(place.span, help=help, **said))
        method = _replace_one(ctx, settings, of, bld)
    if of is None:
        return None
    ctx.lower_later(of)
    if of.kind == "bld" and bld is None:
        return None
    space = ctx.name_of(of) if bld is None else bld.space
    return nodes.Score(
        **common.head(ctx, symbol), bld=None if bld is None else bld.name, space=space, method=method
    )


def _replace_one(
    ctx: Context, settings: Settings, of: Symbol | None, bld: nodes.Bld | None
) -> nodes.ReplaceOne:
    settings.need("metric")
    metric = {"metric": "kl_divergence"}
    if settings.has("metric"):
        metric = ctx.attempt(_metric, ctx, settings) or metric
    name = metric["metric"]
    runs = ctx.attempt(_runs, ctx, settings, name, of, bld) if settings.has("runs") else None
    healed: int = settings.read("healed")
    if healed:
        _refuse_beside(settings, "a score after healing", NOT_WITH_HEALED)
        _refuse_tasks(settings, name, "healed", "scores after healing are measured on text")
    enough = settings.read("samples") >= FITTED_FROM_SAMPLES
    plain = name == "kl_divergence" and not settings.has("around") and runs is None and not healed
    return lower(
        settings,
        nodes.ReplaceOne,
        **metric,
        unit=_unit(settings, bld),
        children=settings.read("children", FITTED_CHILDREN if enough and plain else 0),
        runs=runs,
        healed=healed,
        data=settings.read("data", None if bld is None else bld.data),
    )


def _metric(ctx: Context, settings: Settings) -> dict[str, Any]:
    """The metric, its tasks and the number of tokens that it compares, where it has them."""
    entry, takes = settings.entry("metric"), settings.known("metric")
    name = entry.expr.text if isinstance(entry.expr, tree.Name) else ""
    if name == "top_k_agreement":
        return {"metric": name, "top_k": 1}
    if name in takes.calls and name != "accuracy":
        return {"metric": name}
    call = read_call(ctx, entry.expr, entry.scope, takes)
    arguments = from_call(ctx, call, takes.calls[call.name])
    arguments.need_all()
    names = {"k": "top_k", "tasks": "tasks"}
    return {"metric": call.name, **{names[key]: arguments.read(key) for key in arguments.table}}


def _unit(settings: Settings, bld: nodes.Bld | None) -> str:
    """Coupled pieces are measured as blocks; decoupled ones as sub-blocks unless asked otherwise."""
    coupled = bld is not None and bld.mode == "coupled"
    unit: str = settings.read("unit", "block" if coupled else "subblock")
    if coupled and unit == "subblock":
        help = "a coupled piece holds attention and FFN together: leave `unit` out"
        said: Args = {"what": "`unit: subblock`", "where": "a score of coupled pieces"}
        settings.ctx.report(Misplaced(settings.place("unit"), help=help, **said))
    return unit


# ---------------------------------------------------------------- runs, and scores after healing


def _refuse_beside(settings: Settings, where: str, helps: Mapping[str, str]) -> None:
    for key, help in helps.items():
        if settings.has(key) and (settings.read(key) or key == "around"):
            place = settings.place(key)
            settings.ctx.report(Misplaced(place, what=f"`{key}`", where=where, help=help))


def _refuse_tasks(settings: Settings, metric: str, key: str, measured: str) -> None:
    if metric == "accuracy":
        help = f"{measured}: `kl_divergence`, `lm_loss`, `cosine` or `top_k_agreement`"
        said: Args = {"what": f"`{key}`", "where": "a score of `accuracy`"}
        settings.ctx.report(Misplaced(settings.place(key), help=help, **said))


def _runs(
    ctx: Context, settings: Settings, metric: str, of: Symbol | None, bld: nodes.Bld | None
) -> tuple[int, int]:
    """The least and the most layers of a run, which the space must be able to drop."""
    symbol = None if bld is None or of is None else common.target(ctx, of)
    space = None if symbol is None else ctx.lower(symbol, nodes.Space)
    ends = ctx.attempt(_ends, ctx, settings, LONGEST if space is None else min(LONGEST, len(space.layers)))
    _refuse_beside(settings, "a score of runs", NOT_WITH_RUNS)
    _refuse_tasks(settings, metric, "runs", "runs are measured on text")
    info = None if symbol is None else common.space_info(ctx, symbol)
    if ends is None:
        raise Refused
    if space is None or info is None:
        return ends
    (low, high), span = ends, settings.place("runs")
    if high > len(space.layers):
        help = f"write `runs: {min(low, len(space.layers))}..{len(space.layers)}`"
        condition = f"{SHORTEST} to {len(space.layers)}, the parent's layers"
        said: Args = {"what": "a run of layers", "condition": condition, "got": str(high)}
        raise ctx.refuse(OutOfRange(span, help=help, **said))
    stretches = groupby(can_drop(space.layers, info.shape))
    longest = max((len([*layers]) for droppable, layers in stretches if droppable), default=0)
    if longest < low:
        raise ctx.refuse(NoRunToDrop(span, space=space.name, length=low))
    return ends


def _ends(ctx: Context, settings: Settings, longest: int) -> tuple[int, int]:
    found, span = settings.value("runs"), settings.place("runs")
    example = f"write `runs: {SHORTEST}..{longest}`"
    shown = f"{found.low}..{found.high}" if isinstance(found, RangeValue) else describe(found)
    if not isinstance(found, RangeValue) or found.low.dimension != COUNT or found.low.form == "times":
        raise ctx.wrong(span, "`runs`", "a range of numbers of layers", shown, example)
    low, high = found.low.value, found.high.value
    if found.step is not None:
        help = f"every length from the least to the most is measured: {example}"
        raise ctx.refuse(Misplaced(span, what="`step`", where="`runs`", help=help))
    if not low.denominator == high.denominator == 1 or not SHORTEST <= low <= high:
        condition = f"whole numbers from {SHORTEST} on, the least first"
        raise ctx.refuse(OutOfRange(span, what="`runs`", condition=condition, got=shown, help=example))
    return int(low), int(high)
