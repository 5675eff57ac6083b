"""Measured children: around a search's optimum, between solving and building the child, and along a frontier."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from puzzledsl.base.files import write_text
from puzzledsl.checker.declarations.refines import refine_of, refined_text
from puzzledsl.ir.nodes import Refine, Search
from puzzledsl.ir.tables import FrontierResult, RefinedFrontier, Refinement
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.digests import digest_of, meaning
from puzzledsl.pipeline.inputs import best_solution, costs_of, data_inputs, jobs_of, refinement_of, scores_of
from puzzledsl.pipeline.task import Task
from puzzledsl.pipeline.tasks import healing_text

METHOD = "1"
"""The method; raised when it changes, so that searches refined before are refined again."""
ACROSS = "1"
"""The method of sharing children along a frontier; raised when it changes, so that those measured before are shared again."""


def refine(ctx: Context, name: str) -> Task:
    """Measure the children of a search, or of a frontier."""
    return refine_frontier(ctx, name) if name in ctx.program.frontiers else refine_search(ctx, name)


def refine_search(ctx: Context, name: str) -> Task:
    """Measure children around a search's optimum, and keep the best."""
    search = ctx.program.searches[name]
    assert search.refine is not None

    def measured(*given: Any) -> Refinement:
        from puzzledsl.refining.run import run_refine

        return run_refine(ctx.program, name, best_solution(ctx, name), *given)

    return _task(ctx, name, search, search.refine, "solve", measured)


def refine_frontier(ctx: Context, name: str) -> Task:
    """Measure children at every point of a frontier; those measured for the search count where they meet a point's bound."""
    declaration = ctx.program.frontiers[name]
    search = ctx.program.searches[declaration.search]

    def measured(*given: Any) -> RefinedFrontier:
        from puzzledsl.refining.frontier import run_refine_frontier

        solved = ctx.load(ctx.build.frontier(name), FrontierResult, "frontier", name)
        around = refinement_of(ctx, search.name) if _is_refined(ctx, search) else None
        return run_refine_frontier(ctx.program, name, solved, *given, around=around)

    task = _task(ctx, name, search, refine_of(declaration, search), "frontier", measured)

    def inputs() -> dict[str, str]:
        refined = _is_refined(ctx, search)
        around = {"around": ctx.made("refine", search.name, "the measured children")} if refined else {}
        return {**task.inputs(), "across": ACROSS, **around}

    return replace(task, inputs=inputs)


def _is_refined(ctx: Context, search: Search) -> bool:
    """True where a search's children are measured and as its settings are now, so that their losses compare with others."""
    if search.refine is None or ctx.stamps.read("refine", search.name) is None:
        return False
    return ctx.stamps.is_fresh("refine", search.name, refine_search(ctx, search.name).inputs())


def _task(
    ctx: Context,
    name: str,
    search: Search,
    method: Refine,
    solved_by: Literal["solve", "frontier"],
    measured: Callable[..., Refinement | RefinedFrontier],
) -> Task:
    """Measure with the search's tables, parent, library and jobs, which `measured` takes in this order."""

    def inputs() -> dict[str, str]:
        return {"layers": ctx.made(solved_by, name, "the solutions"), **_measuring(ctx, search, method)}

    def run() -> list[Path]:
        from puzzledsl.pieces.store.library import Library

        work = ctx.build.work("refine", f"{name}-{digest_of(inputs())[:16]}")
        found = measured(
            costs_of(ctx, search.space),
            scores_of(ctx, search.name),
            ctx.parent_directory(search.space, "refine"),
            ctx.base,
            Library(ctx.build.library),
            tuple(job for bld in _blds(ctx, search) for job in jobs_of(ctx, bld)),
            work,
            ctx.progress,
        )
        output = ctx.build.refinement(name)
        write_text(output, found.canonical_json())
        for unfinished in work.parent.glob(f"{name}-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return [output]

    return Task("refine", name, inputs, run)


def _blds(ctx: Context, search: Search) -> list[str]:
    return [bld for bld, declared in ctx.program.blds.items() if declared.space == search.space]


def _measuring(ctx: Context, search: Search, method: Refine) -> dict[str, str]:
    """Digests of all that measured children depend on besides the solutions."""
    blds = _blds(ctx, search)
    healing = {"healing": healing_text(ctx, blds)} if method.healed else {}
    return {
        "refine": digest_of([METHOD, meaning(method)]),
        "search": meaning(search.model_copy(update={"refine": None})),
        "costs": costs_of(ctx, search.space).digest(),
        "scores": digest_of({n: t.digest() for n, t in sorted(scores_of(ctx, search.name).items())}),
        "pieces": digest_of({bld: ctx.made("bld", bld, "the pieces") for bld in blds}),
        "parent": ctx.fingerprint(search.space, "refine"),
        **data_inputs(ctx, refined_text(ctx.program, search.model_copy(update={"refine": method}))),
        **healing,
    }
