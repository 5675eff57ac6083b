"""`replace_one(METRIC, runs: 2..8, healed: 4Ki)`: consecutive layers that are dropped together, and scores after healing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import space_info, target
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.space_errors import NoRunToDrop
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.checker.expressions.values import Poison, RangeValue, Symbol, describe
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.ir.layer_runs import can_drop

SHORTEST, LONGEST = 2, 8  # the longest is that of the example which messages give
NOT_WITH_RUNS = {
    "children": "a fit scales the scores of single layers, and those of runs are measured as they are: leave one of both out",
    "around": "runs are measured in the parent: score around a child without `runs`",
}
NOT_WITH_HEALED = {
    "children": "a fit is to children that nobody has healed: leave one of both out",
    "around": "layers are healed in the parent: score around a child without `healed`",
}


def read_healed(ctx: Context, settings: Settings, metric: str) -> int:
    """The tokens that the layer behind each replacement is healed on; 0 where none is."""
    healed = settings.whole("healed", 0)
    if healed:
        _refuse_beside(ctx, settings, "a score after healing", NOT_WITH_HEALED)
        _refuse_tasks(ctx, settings, metric, "healed", "scores after healing are measured on text")
    return healed


def _refuse_beside(ctx: Context, settings: Settings, where: str, helps: Mapping[str, str]) -> None:
    for key, help in helps.items():
        if settings.has(key) and _is_asked_for(settings, key):
            ctx.report(name_errors.Misplaced(settings.place(key), what=f"`{key}`", where=where, help=help))


def _refuse_tasks(ctx: Context, settings: Settings, metric: str, key: str, measured: str) -> None:
    if metric == "accuracy":
        help = f"{measured}: `kl_divergence`, `lm_loss`, `cosine` or `top_k_agreement`"
        where = "a score of `accuracy`"
        ctx.report(name_errors.Misplaced(settings.place(key), what=f"`{key}`", where=where, help=help))


def read_runs(ctx: Context, settings: Settings, metric: str, bld: Symbol | None) -> tuple[int, int] | None:
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


def _is_asked_for(settings: Settings, key: str) -> bool:
    match key:
        case "children":
            return settings.whole(key, 0) > 0
        case _:
            return True


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
