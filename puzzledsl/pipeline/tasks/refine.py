"""Measured children: around a search's optimum, between solving and building the child, and along a frontier."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzledsl.base.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.ir.references import refine_of, refined_text
from puzzledsl.ir.tables import FrontierResult, RefinedFrontier, Refinement
from puzzledsl.pipeline import needs
from puzzledsl.pipeline.digests import digest_of, meaning
from puzzledsl.pipeline.healing import healing_of_scores
from puzzledsl.pipeline.inputs import (
    best_solution,
    costs_of,
    data_inputs,
    jobs_of,
    refined_frontier_of,
    refinement_of,
    scores_of,
    table_inputs,
)
from puzzledsl.pipeline.planning.flop import shape_of, token_flop
from puzzledsl.pipeline.task import DeclaredTask, Key, Work
from puzzledsl.plan.memory.device import Device
from puzzledsl.plan.memory.realising import realise_plan
from puzzledsl.plan.memory.stage_plan import StagePlan

METHOD = "1"
"""The method; raised when it changes, so that searches refined before are refined again."""
ACROSS = "1"
"""The method of sharing children along a frontier; raised when it changes, so that those measured before are shared again."""
CHILD_HEALED = (
    1.0  # in memory, in forwards: the parent's states and those shared with other children are there
)


class Refine(DeclaredTask[nodes.Search | nodes.Frontier]):
    """Measure children of a search, or at every point of a frontier, and keep the best.

    Children measured for a search count at the points of its frontier whose bound they meet.
    """

    stage, after, kind = "refine", "frontier", "refined search or frontier with children"
    words = {
        "across": "how children are measured",
        "around": "the search's measured children",
        "refine": "how children are measured",
    }
    reads_text = True

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, nodes.Search | nodes.Frontier]:
        searches = {name: search for name, search in program.searches.items() if search.refine is not None}
        return searches | {name: f for name, f in program.frontiers.items() if f.children}

    @property
    def frontier(self) -> nodes.Frontier | None:
        """The frontier; None around a search's optimum."""
        return self.program.frontiers.get(self.name)

    @property
    def search(self) -> nodes.Search:
        """The search, with the settings that children are measured by as its `refine`."""
        search = self.program.searches[self.name if self.frontier is None else self.frontier.search]
        refine = search.refine if self.frontier is None else refine_of(self.frontier, search)
        return search.model_copy(update={"refine": refine})

    @property
    def method(self) -> nodes.Refine:
        """The settings that children are measured by."""
        method = self.search.refine
        assert method is not None
        return method

    def exists(self) -> bool:
        if self.frontier is None:
            return needs.has_child(self.ctx, self.name)
        return needs.has_pieces(self.program, self.search.name)

    def needs(self) -> tuple[Key, ...]:
        search = self.search.name
        around = () if self.frontier is None else needs.refined(self.program, search)
        tables, pieces = needs.tables(self.ctx, search), needs.pieces(self.program, self.space)
        return (self._solved, self.name), *around, *tables, *pieces

    @property
    def _solved(self) -> str:
        """The stage that makes the solutions."""
        return "solve" if self.frontier is None else "frontier"

    def inputs(self) -> dict[str, str]:
        ctx, search, method = self.ctx, self.search, self.method
        blds = needs.blds_of(self.program, self.space)
        layers = ctx.made(self._solved, self.name, "the solutions")
        healing = {"healing": healing_of_scores(ctx, blds)} if method.healed else {}
        found = {
            "layers": layers,
            "refine": digest_of([METHOD, meaning(method)]),
            "search": meaning(search.model_copy(update={"refine": None})),
            **table_inputs(ctx, search.name),
            "pieces": digest_of({bld: ctx.made("bld", bld, "the pieces") for bld in blds}),
            "parent": ctx.fingerprint(self.space, "refine"),
            **data_inputs(ctx, refined_text(self.program, search)),
            **healing,
        }
        if self.frontier is not None:
            found["across"] = ACROSS
            if self._is_refined(search.name):
                found["around"] = ctx.made("refine", search.name, "the measured children")
        return found

    def _is_refined(self, search: str) -> bool:
        """True where a search's children are measured by its present settings, so that their losses compare with others."""
        if not needs.refined(self.program, search) or self.ctx.stamps.read("refine", search) is None:
            return False
        return self.ctx.stamps.is_fresh("refine", search, Refine(self.ctx, search).inputs())

    def texts(self) -> Iterable[str | None]:
        return (refined_text(self.program, self.search),)

    def work(self) -> Work:
        """The parent once; each child heals its tokens and is compared on the others."""
        shape, method = shape_of(self.program, self.space), self.method
        points = 1 if self.frontier is None else self.frontier.points
        healed = method.healed * token_flop(shape, head=False)
        compared = method.samples * token_flop(shape, head=True)
        return Work(healed + compared + points * method.children * (CHILD_HEALED * healed + compared))

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape, tokens = shape_of(self.program, self.space), self.method.healed + self.method.samples
        return [realise_plan(self.name, shape, tokens, device, self.work().flop, stage=self.stage)]

    def run(self) -> list[Path]:
        work = self.ctx.build.work("refine", f"{self.name}-{digest_of(self.inputs())[:16]}")
        output = self.ctx.build.refinement(self.name)
        write_text(output, self._measured(work).canonical_json())
        for unfinished in work.parent.glob(f"{self.name}-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return [output]

    def _measured(self, work: Path) -> Refinement | RefinedFrontier:
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.refining.frontier import run_refine_frontier
        from puzzledsl.refining.inputs import RefineInputs
        from puzzledsl.refining.run import run_refine

        ctx, search = self.ctx, self.search.name
        inputs = RefineInputs(
            ctx.program,
            search,
            costs_of(ctx, self.space),
            scores_of(ctx, search),
            ctx.parent_directory(self.space, "refine"),
            ctx.base,
            Library(ctx.build.library),
            tuple(job for bld in needs.blds_of(self.program, self.space) for job in jobs_of(ctx, bld)),
            work,
            ctx.progress,
        )
        if self.frontier is None:
            return run_refine(inputs, best_solution(ctx, search))
        solved = ctx.load(ctx.build.frontier(self.name), FrontierResult, "frontier", self.name)
        around = refinement_of(ctx, search) if self._is_refined(search) else None
        return run_refine_frontier(inputs, self.name, solved, around)

    def remark(self) -> str:
        from puzzledsl.pipeline.text.refined_text import refined_line, refined_points_line

        if self.frontier is not None:
            return f", {refined_points_line(refined_frontier_of(self.ctx, self.name))}"
        found = refinement_of(self.ctx, self.name)
        return "" if found is None else f", {refined_line(found)}"
