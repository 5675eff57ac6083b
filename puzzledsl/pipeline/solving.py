"""Solve searches and frontiers of a run, and the regrets of a solved search.

Regrets and margins of a solved search, from the tables of a run.

Children of a run as models.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puzzledsl.alternatives.alternative import Site
from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import write_text
from puzzledsl.ir.tables import FrontierResult, SearchResult, WhyResult
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import execute
from puzzledsl.pipeline.inputs import costs_of, scores_of
from puzzledsl.pipeline.needs import child
from puzzledsl.pipeline.process.disk import disk_errors
from puzzledsl.pipeline.process.locks import locked
from puzzledsl.pipeline.targets import chosen, not_ready
from puzzledsl.pipeline.tasks.frontier import Frontier
from puzzledsl.pipeline.tasks.solve import Solve

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # noqa: TID251 (a type only)


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


def regrets_of(
    ctx: Context,
    search: str,
    layer: int | None = None,
    sub_block: Site | None = None,
    *,
    time_s: float,
) -> WhyResult | SearchResult:
    """Return the regrets of one layer (or of one of its sub-blocks); without `layer`, of all layers, and the margins.

    Return the search's result if it has no solution. Raises DiagnosticError when a table is missing.
    """
    from puzzledsl.search.sensitivity.why import why_search

    costs, scores = costs_of(ctx, ctx.program.searches[search].space), scores_of(ctx, search)
    layers = None if layer is None else [layer]
    result = why_search(ctx.program, search, costs, scores, time_s=time_s, layers=layers)
    if not isinstance(result, WhyResult):
        return result
    inputs = Solve(ctx, search).inputs()
    if sub_block is None:
        return result.model_copy(update={"inputs": inputs})
    kept = tuple(s for s in result.sub_blocks if s.sub_block == sub_block)
    return result.model_copy(update={"inputs": inputs, "sub_blocks": kept})


def keep_regrets(ctx: Context, result: WhyResult) -> Path:
    """Write the regrets of all layers for `pzl report`. Return the path."""
    path = ctx.build.why(result.search)
    with locked(ctx), disk_errors(ctx.build.root):
        write_text(path, result.canonical_json())
    return path


def load_made_child(ctx: Context, name: str, *, dtype: Any = None, device: Any = "cpu") -> PreTrainedModel:
    """Load the child of a search or of an uptraining, in evaluation mode. `dtype` None: float32.

    Raises DiagnosticError for an unknown name, and for a child that is not made yet.
    """
    declared = {**ctx.program.searches, **ctx.program.uptrains}
    chosen("search or uptrain", declared, [name], ctx.file, "realise")
    ctx.made(*child(ctx.program, name), "the child")
    from puzzledsl.child.load import load_child

    wanted = {} if dtype is None else {"dtype": dtype}
    return load_child(ctx.build.model(name), device=device, **wanted)
