"""Measured children: around a search's optimum, between solving and building the child, and along a frontier."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from puzzledsl.base.diagnostics import Args, Diagnostic, DiagnosticError, JudgedOnWhatIsRead
from puzzledsl.base.files import write_text
from puzzledsl.base.phrases import listed
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.references import judged_by, readers_of, refine_of, refined_text
from puzzledsl.ir.tables import FrontierResult, RefinedFrontier, Refinement
from puzzledsl.pipeline import opening as needs
from puzzledsl.pipeline.errors import NoChildIsGoodEnough
from puzzledsl.pipeline.inputs import (
    best_solution,
    costs_of,
    data_inputs,
    healing_of_children,
    healing_of_scores,
    healing_work,
    pieces_of,
    refined_frontier_of,
    refinement_of,
    scores_of,
    table_inputs,
)
from puzzledsl.pipeline.stamps import digest_of, files_fingerprint, meaning
from puzzledsl.pipeline.task import (
    HEALED_SHARE,
    DeclaredTask,
    Key,
    Work,
    child_bytes,
    healing_flop,
    item_tokens,
    shape_of,
    token_flop,
)
from puzzledsl.plan.memory.stage_plan import Device, StagePlan
from puzzledsl.plan.memory.stages import realise_plan

JUDGING = "1"
"""The method of searching by judges; raised when it changes, so that searches judged before are judged again."""
METHOD = "1"
"""The method; raised when it changes, so that searches refined before are refined again."""
ACROSS = "1"
"""The method of sharing children along a frontier; raised when it changes, so that those measured before are shared again."""
CHILD_HEALED = (
    1.0  # in memory, in forwards: the parent's states and those shared with other children are there
)


class Refine(DeclaredTask[nodes.Search | nodes.Frontier]):
    """Measure children of a search, or at every point of a frontier (with its search's that meet the bound); keep the best."""

    stage, after, kind = "refine", "frontier", "refined search or frontier with children"
    words = {
        "across": "how children are measured",
        "around": "the search's measured children",
        "judges": "the judges",
        "tasks": "the questions",
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
        if self._judges:
            healing = {"healing": healing_of_children(ctx, blds)}
        found = {
            "layers": layers,
            "refine": digest_of([METHOD, meaning(method)]),
            "search": meaning(search.model_copy(update={"refine": None})),
            **table_inputs(ctx, search.name),
            "pieces": digest_of({bld: ctx.made("bld", bld, "the pieces") for bld in blds}),
            "parent": ctx.fingerprint(self.space, "refine"),
            **data_inputs(ctx, *filter(None, self.texts())),
            **healing,
        }
        if judges := self._judges:
            found["judges"] = digest_of([JUDGING, *map(meaning, judges)])
            found["tasks"] = digest_of([files_fingerprint(judge.tasks, ctx.base) for judge in judges])
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

    @property
    def _judges(self) -> list[nodes.Judge]:
        """The judges that requirements name; without any, the score's own text measures children."""
        names = dict.fromkeys(judged.judge for judged in judged_by(self.search))
        return [self.program.judges[name] for name in names]

    def texts(self) -> Iterable[str | None]:
        judges = self._judges
        return [judge.data for judge in judges] or [refined_text(self.program, self.search)]

    def items(self) -> Iterable[tuple[str, nodes.Where]]:
        return [(path, judge.where) for judge in self._judges for path in judge.tasks]

    def lacks(self) -> Iterable[Diagnostic]:
        """Documents and questions that judges share with anything else."""
        from puzzledsl.data.blocks import digests_of, digests_of_tasks

        program, base = self.program, self.ctx.base
        for judge in self._judges:
            try:
                texts = set(digests_of(program.data[judge.data], base))
                asked = set(digests_of_tasks(judge.tasks, judge.items, base))
                shared = {
                    ("documents", reader): sum(
                        digest in texts for digest in digests_of(program.data[name], base)
                    )
                    for name, readers in readers_of(program).items()
                    for reader in readers
                }
                shared |= {
                    ("questions", f"eval `{e.name}`"): len(
                        asked & {*digests_of_tasks(e.tasks, e.items, base)}
                    )
                    for e in program.evals.values()
                }
            except DiagnosticError:  # missing files are reported by others
                continue
            for (what, reader), count in shared.items():
                if count:
                    said: Args = {"judge": judge.name, "what": what, "reader": reader}
                    yield JudgedOnWhatIsRead(span_of(judge.where), found=f" ({count:,} of them)", **said)

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        from puzzledsl.evaluate.plan import BLOCK_TOKENS

        return [(judge.data, judge.tokens, max(2, min(BLOCK_TOKENS, judge.tokens))) for judge in self._judges]

    def work(self) -> Work:
        """The parent once; each child heals its tokens and is compared on the others."""
        shape, method = shape_of(self.program, self.space), self.method
        points = 1 if self.frontier is None else self.frontier.points
        if self._judges:
            return self._judging() * (1 + points * method.children)
        healed = method.healed * token_flop(shape, head=False)
        compared = method.samples * token_flop(shape, head=True)
        return Work(healed + compared + points * method.children * (CHILD_HEALED * healed + compared))

    def _judging(self) -> Work:
        """A child that is healed as it is built, written, and measured by every judge."""
        shape, ctx = shape_of(self.program, self.space), self.ctx
        tokens = max(
            (self.program.blds[b].heal_tokens for b in needs.blds_of(self.program, self.space)), default=0
        )
        read = sum(judge.tokens + item_tokens(ctx.base, judge.tasks, judge.items) for judge in self._judges)
        healing = healing_flop(shape, tokens if ctx.heal else 0, HEALED_SHARE * shape.layers)
        return Work(healing + read * token_flop(shape, head=True), child_bytes(ctx, self.space))

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
        from puzzledsl.refining.judges import RefineInputs
        from puzzledsl.refining.run import run_refine, run_refine_frontier

        ctx, search = self.ctx, self.search.name
        inputs = RefineInputs(
            ctx.program,
            search,
            costs_of(ctx, self.space),
            scores_of(ctx, search),
            ctx.parent_directory(self.space, "refine"),
            ctx.base,
            Library(ctx.build.library),
            tuple(job for bld in needs.blds_of(self.program, self.space) for job in pieces_of(ctx, bld)),
            work,
            ctx.progress,
            heal=ctx.heal,
            executor=ctx.executor,
            healing_work=partial(healing_work, ctx, search) if self.frontier is None else None,
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
        return "" if found is None else f", {refined_line(self.program, found)}"

    def dead_end(self) -> Diagnostic | None:
        """Return the requirements that no measured child meets, with the child that comes nearest."""
        found = None if self.frontier is not None else refinement_of(self.ctx, self.name)
        if found is None or not found.best.missed:
            return None
        from puzzledsl.pipeline.text.refined_text import judged_text

        first = next(
            r for r in self.search.requirements if isinstance(r, nodes.LinearRequirement) and r.judged
        )
        return NoChildIsGoodEnough(
            span_of(first.where),
            search=self.name,
            missed=listed([f"`{text}`" for text in found.best.missed]),
            children=len(found.children),
            nearest=judged_text(found.best),
        )
