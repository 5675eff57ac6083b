"""Cost breakdowns for `pzl cost`: of a program's parents, or of the best child of a solved search, in each scenario."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.costs.breakdown import Breakdown, breakdown
from puzzledsl.ir.nodes import LayerChoice, Space
from puzzledsl.ir.tables import PARENT, CostTable
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import NothingToCost
from puzzledsl.pipeline.targets import chosen


def breakdowns(ctx: Context, search: str | None, scenarios: Iterable[str]) -> list[Breakdown]:
    """Return one breakdown per model and scenario.

    Raises DiagnosticError for an unknown or unsolved search, an unknown scenario, or if no scenario has costs.
    """
    wanted = chosen("scenario", ctx.program.scenarios, list(scenarios), ctx.file, "cost")
    if search is None:
        found = list(_of_parents(ctx, wanted))
    else:
        found = list(_of_solution(ctx, chosen("search", ctx.program.searches, [search], ctx.file)[0], wanted))
    if not found:
        raise DiagnosticError(NothingToCost(None, scenarios=", ".join(wanted), file=ctx.file))
    return found


def _of_solution(ctx: Context, search: str, scenarios: list[str]) -> Iterator[Breakdown]:
    best = inputs.child_so_far(ctx, search)
    space = ctx.program.spaces[ctx.program.searches[search].space]
    costs = inputs.costs_of(ctx, space.name)
    for name in scenarios:
        if costs.scenarios.get(name):
            batch = best.batches.get(name)
            yield breakdown(ctx.program, space, costs, name, best.layers, f"child {search}", batch)


def _of_parents(ctx: Context, scenarios: list[str]) -> Iterator[Breakdown]:
    """Yield each parent once: in the first of its spaces, whose costs may be measured, else in a space with only the parent."""
    known = [space for space in ctx.program.spaces.values() if space.used_by is None]
    spaces = {space.parent: space for space in reversed(known)}
    for parent in ctx.program.parents:
        space = spaces.get(parent)
        costs = inputs.costs_of(ctx, space.name) if space else None
        if space is None or costs is None:
            space, costs = _alone(ctx, parent)
        for name in scenarios:
            if costs.scenarios.get(name):
                layers = [PARENT] * len(space.layers)
                yield breakdown(ctx.program, space, costs, name, layers, f"parent {parent}")


def _alone(ctx: Context, parent: str) -> tuple[Space, CostTable]:
    from puzzledsl.costs.table import cost_table

    it = ctx.program.parents[parent]
    space = Space(
        name=f"{parent} alone",
        parent=parent,
        layers=(LayerChoice.of_parent(),) * it.shape.layers,
        where=it.where,
    )
    program = ctx.program.model_copy(update={"spaces": {space.name: space}})
    return space, cost_table(program, space.name, ctx.base)
