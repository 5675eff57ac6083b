"""Solve searches and frontiers of a run: results by name, and a diagnostic for each search that lacks its tables."""

from __future__ import annotations

import time
from collections.abc import Iterable

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.ir.tables import FrontierResult, SearchResult
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import execute
from puzzledsl.pipeline.targets import not_ready
from puzzledsl.pipeline.tasks.frontier import Frontier
from puzzledsl.pipeline.tasks.solve import Solve


def ready(ctx: Context, searches: Iterable[str]) -> tuple[list[str], list[Diagnostic]]:
    """Return the searches that have all their tables, and a diagnostic for each of the others."""
    found: list[str] = []
    problems: list[Diagnostic] = []
    for name in searches:
        problem = not_ready(ctx, name)
        if problem is None:
            found.append(name)
        else:
            problems.append(problem)
    return found, problems


def solved(ctx: Context, name: str, *, force: bool = True, keep: bool = True) -> tuple[SearchResult, float]:
    """Return the result of one search and the seconds it took. Without `force` an answer to the same inputs is read back.

    Without `keep` nothing is written, so another process may work in the build directory.
    """
    began = time.monotonic()
    if not keep:
        return Solve(ctx, name).answer(), time.monotonic() - began
    execute(ctx, [Solve(ctx, name)], force=force)
    return inputs.solution_of(ctx, name), time.monotonic() - began


def solved_frontier(ctx: Context, name: str, *, force: bool = True) -> FrontierResult:
    """Return the points of one frontier, and write its CSV and picture. `force` as for `solved`."""
    execute(ctx, [Frontier(ctx, name)], force=force)
    return ctx.load(ctx.build.frontier(name), FrontierResult, "frontier", name)


def baselines_of(ctx: Context, name: str) -> dict[str, SearchResult]:
    """Solve every baseline under a search's requirements."""
    from puzzledsl.search.baselines import solve_baselines

    space = ctx.program.searches[name].space
    found = solve_baselines(ctx.program, name, inputs.costs_of(ctx, space), inputs.scores_of(ctx, name))
    return dict(found.items())
