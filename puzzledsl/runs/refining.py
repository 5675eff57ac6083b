"""`refine` of a search: children measured around its optimum, between solving and building the child."""

from __future__ import annotations

import shutil
from pathlib import Path

from puzzledsl.files import write_text
from puzzledsl.ir.refines import refined_text
from puzzledsl.runs.context import Context
from puzzledsl.runs.digests import digest_of, meaning
from puzzledsl.runs.readings import best_solution, costs_of, data_inputs, jobs_of, scores_of
from puzzledsl.runs.task import Task
from puzzledsl.runs.tasks import healing_text

METHOD = "1"
"""The method; raised when it changes, so that searches refined before are refined again."""


def refine(ctx: Context, name: str) -> Task:
    """Measure children around a search's optimum, and keep the best."""
    search = ctx.program.searches[name]
    blds = [bld for bld, declared in ctx.program.blds.items() if declared.space == search.space]
    method = search.refine
    assert method is not None

    def inputs() -> dict[str, str]:
        solution = ctx.made("solve", name, "the solutions")
        healing = {"healing": healing_text(ctx, blds)} if method.healed else {}
        return {
            "refine": digest_of([METHOD, meaning(method)]),
            "search": meaning(search.model_copy(update={"refine": None})),
            "layers": solution,
            "costs": costs_of(ctx, search.space).digest(),
            "scores": digest_of({n: t.digest() for n, t in sorted(scores_of(ctx, name).items())}),
            "pieces": digest_of({bld: ctx.made("bld", bld, "the pieces") for bld in blds}),
            "parent": ctx.fingerprint(search.space, "refine"),
            **data_inputs(ctx, refined_text(ctx.program, search)),
            **healing,
        }

    def run() -> list[Path]:
        from puzzledsl.library.library import Library
        from puzzledsl.refining.run import run_refine  # type: ignore[import-not-found,import-untyped,unused-ignore]

        work = ctx.build.work("refine", f"{name}-{digest_of(inputs())[:16]}")
        found = run_refine(
            ctx.program,
            name,
            best_solution(ctx, name),
            costs_of(ctx, search.space),
            scores_of(ctx, name),
            ctx.parent_directory(search.space, "refine"),
            ctx.base,
            Library(ctx.build.library),
            tuple(job for bld in blds for job in jobs_of(ctx, bld)),
            work,
            ctx.progress,
        )
        output = ctx.build.refinement(name)
        write_text(output, found.canonical_json())
        for unfinished in work.parent.glob(f"{name}-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return [output]

    return Task("refine", name, inputs, run)
