"""Regrets and margins of a solved search, from the tables of a run."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.alternatives.alternative import Site
from puzzledsl.base.files import write_text
from puzzledsl.ir.tables import SearchResult, WhyResult
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import costs_of, scores_of
from puzzledsl.pipeline.process.disk import disk_errors
from puzzledsl.pipeline.process.locks import locked
from puzzledsl.pipeline.tasks.solve import Solve


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
