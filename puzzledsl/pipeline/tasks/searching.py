"""The tasks `solve`, `frontier` and `refine`: answers of a search, and children measured around them."""

import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from puzzledsl.base.diagnostics import Args, Diagnostic, DiagnosticError, JudgedOnWhatIsRead
from puzzledsl.base.files import write_text
from puzzledsl.base.phrases import listed
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.references import judged_by, judges_of, readers_of, references, refined_text, without_judges
from puzzledsl.ir.tables import SearchResult
from puzzledsl.pipeline import estimates, inputs
from puzzledsl.pipeline.context import Key, digest_of, files_fingerprint, meaning
from puzzledsl.pipeline.errors import NoChildIsGoodEnough
from puzzledsl.pipeline.estimates import Work
from puzzledsl.pipeline.task import DeclaredTask
from puzzledsl.plan.memory import stages
from puzzledsl.plan.memory.stage_plan import Device, StagePlan


class Solve(DeclaredTask[nodes.Search]):
    """Choose one alternative for each sub-block of each layer."""

    stage, kind = "solve", "search"
    by_space = True

    def needs(self) -> tuple[Key, ...]:
        return inputs.table_tasks(self.ctx, self.name)

    def inputs(self) -> dict[str, str]:
        search = meaning(self.declaration.model_copy(update={"refine": None}))
        return {"search": search, **inputs.table_inputs(self.ctx, self.name)}

    def answer(self) -> SearchResult:
        """Solve the search, and write nothing. If no child satisfies predictions for judges, solve it again without them."""
        from puzzledsl.search.solve import solve_search

        ctx = self.ctx
        tables = inputs.ready_tables(ctx, self.name)
        found = solve_search(ctx.program, self.name, *tables, progress=ctx.progress)
        if found.status == "infeasible" and judged_by(self.declaration):  # a prediction proves nothing
            program = without_judges(ctx.program, self.name)
            found = solve_search(program, self.name, *tables, progress=ctx.progress)
        return found

    def run(self) -> list[Path]:
        return self.keep(self.ctx.build.solution(self.name), self.answer())

    def remark(self) -> str:
        result = inputs.solution_of(self.ctx, self.name)
        if not result.solutions:
            return f", {result.status}"
        text = f", {result.status}, objective {result.solutions[0].objective:.6g}"
        proof = f", bound {result.bound:.6g}, gap {result.gap or 0:.2g}" if result.bound is not None else ""
        return text + proof

    def dead_end(self) -> Diagnostic | None:
        """Return the conflicting requirements if the search is infeasible and a later declaration needs its child, else None."""
        result, program = inputs.solution_of(self.ctx, self.name), self.program
        later = (*program.uptrains.values(), *program.evals.values(), *program.exports.values())
        wanted = any(self.name in references(declaration) for declaration in later)
        if result.status != "infeasible" or not wanted:
            return None
        from puzzledsl.search.infeasible.verdicts import infeasible_diagnostic

        return infeasible_diagnostic(program, result)


class Frontier(DeclaredTask[nodes.Frontier]):
    """Solve a search at every point of a frontier."""

    stage, kind = "frontier", "frontier"
    by_space = True

    @property
    def search(self) -> str:
        """The search that is solved at every point."""
        return self.declaration.search

    def needs(self) -> tuple[Key, ...]:
        return inputs.table_tasks(self.ctx, self.search)

    def inputs(self) -> dict[str, str]:
        return {"frontier": meaning(self.declaration), **Solve(self.ctx, self.search).inputs()}

    def run(self) -> list[Path]:
        from puzzledsl.search.solve import as_csv, solve_frontier

        build, tables = self.ctx.build, inputs.ready_tables(self.ctx, self.search)
        result = solve_frontier(self.program, self.name, *tables)
        table = build.frontier_csv(self.name)
        write_text(table, as_csv(self.program, result))
        return [*self.keep(build.frontier(self.name), result), table]


JUDGING = "1"
"""Version of searching by judges; raised when it changes, so that searches judged before are judged again."""
METHOD = "1"
"""Version of refining; raised when it changes, so that searches refined before are refined again."""
CHILD_HEALED = 1.0
"""Work of healing a child in memory, in forward passes: states of the parent and of similar children are known already."""


class Refine(DeclaredTask[nodes.Search]):
    """Measure children around a search's optimum; keep the best."""

    stage, kind = "refine", "refined search"
    reads_text = True

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, nodes.Search]:
        return {name: search for name, search in program.searches.items() if search.refine is not None}

    @property
    def method(self) -> nodes.Refine:
        """The settings that children are measured by."""
        method = self.declaration.refine
        assert method is not None
        return method

    def exists(self) -> bool:
        return inputs.has_child(self.ctx, self.name)

    def needs(self) -> tuple[Key, ...]:
        pieces = inputs.piece_tasks(self.program, self.space)
        return ("solve", self.name), *inputs.table_tasks(self.ctx, self.name), *pieces

    def inputs(self) -> dict[str, str]:
        ctx, search, method = self.ctx, self.declaration, self.method
        blds = self.blds
        healing = {"healing": inputs.healing_of_scores(ctx, blds)} if method.healed else {}
        if self._judges:
            healing = {"healing": inputs.healing_of_children(ctx, blds)}
        found = {
            "layers": ctx.made("solve", self.name, "the solutions"),
            "refine": digest_of([METHOD, meaning(method)]),
            "search": meaning(search.model_copy(update={"refine": None})),
            **inputs.table_inputs(ctx, search.name),
            "pieces": digest_of({bld: ctx.made("bld", bld, "the pieces") for bld in blds}),
            "parent": self.parent_digest,
            **inputs.data_inputs(ctx, *self.texts()),
            **healing,
        }
        if judges := self._judges:
            found["judges"] = digest_of([JUDGING, *map(meaning, judges)])
            found["tasks"] = digest_of([files_fingerprint(judge.tasks, ctx.base) for judge in judges])
        return found

    @property
    def _judges(self) -> list[nodes.Judge]:
        """The judges that requirements name; without any, the score's own text measures children."""
        return judges_of(self.program, self.declaration)

    def texts(self) -> Iterable[str | None]:
        judges = self._judges
        return [judge.data for judge in judges] or [refined_text(self.program, self.declaration)]

    def items(self) -> Iterable[tuple[str, nodes.Where]]:
        return [(path, judge.where) for judge in self._judges for path in judge.tasks]

    def lacks(self) -> Iterable[Diagnostic]:
        """Yield a diagnostic for each other reader of documents or questions that a judge measures children on."""
        from puzzledsl.data.streams import digests_of, digests_of_tasks

        program, base = self.program, self.ctx.base
        for judge in self._judges:
            try:
                texts = set(digests_of(program.data[judge.data], base))
                asked = set(digests_of_tasks(judge.tasks, judge.items, base))
                shared = dict[tuple[str, str], int]()
                for name, readers in readers_of(program).items():
                    met = sum(digest in texts for digest in digests_of(program.data[name], base))
                    shared |= {("documents", reader): met for reader in readers}
                for e in program.evals.values():
                    met = len(asked & {*digests_of_tasks(e.tasks, e.items, base)})
                    shared["questions", f"eval `{e.name}`"] = met
            except DiagnosticError:  # missing files are reported by others
                continue
            for (what, reader), count in shared.items():
                if count:
                    said: Args = {"judge": judge.name, "what": what, "reader": reader}
                    yield JudgedOnWhatIsRead(span_of(judge.where), found=f" ({count:,} of them)", **said)

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        read = ((judge.data, judge.tokens) for judge in self._judges)
        return [(name, tokens, max(2, min(stages.BLOCK_TOKENS, tokens))) for name, tokens in read]

    def work(self) -> Work:
        """Return the work of the parent's pass, then of healing and comparing each child; with judges, of judging all."""
        shape, method = self.shape, self.method
        if self._judges:
            return self._judging() * (1 + method.children)
        healed = method.healed * estimates.token_flop(shape, head=False)
        compared = method.samples * estimates.token_flop(shape, head=True)
        return Work(healed + compared + method.children * (CHILD_HEALED * healed + compared))

    def _judging(self) -> Work:
        """Return the work of one child that is healed in full, written, and measured by every judge."""
        shape, ctx = self.shape, self.ctx
        judges = self._judges
        read = sum(j.tokens + estimates.item_tokens(ctx.base, j.tasks, j.items) for j in judges)
        healing = estimates.healing_flop(shape, self.heal_tokens, estimates.HEALED_SHARE * shape.layers)
        flop = healing + read * estimates.token_flop(shape, head=True)
        return Work(flop, estimates.child_bytes(ctx, self.space))

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape, tokens = self.shape, self.method.healed + self.method.samples
        return [stages.realise_plan(self.name, shape, tokens, device, self.work().flop, stage=self.stage)]

    def run(self) -> list[Path]:
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.refining.judges import RefineInputs
        from puzzledsl.refining.run import run_refine

        ctx, search = self.ctx, self.name
        work = ctx.build.work("refine", f"{search}-{digest_of(self.inputs())[:16]}")
        costs, scores = inputs.read_tables(ctx, search)
        given = (ctx.program, search, self.parent, ctx.base, Library(ctx.build.library), self.jobs, work)
        refine = RefineInputs(
            *(*given, ctx.progress, ctx.executor),
            costs=costs,
            scores=scores,
            heal=ctx.heal,
            healing_work=partial(inputs.healing_work, ctx, search),
        )
        found = run_refine(refine, inputs.best_solution(ctx, search))
        kept = self.keep(ctx.build.refinement(search), found)
        for unfinished in work.parent.glob(f"{search}-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return kept

    def remark(self) -> str:
        from puzzledsl.pipeline.text.child_text import refined_line

        found = inputs.refinement_of(self.ctx, self.name)
        return "" if found is None else f", {refined_line(self.program, found)}"

    def dead_end(self) -> Diagnostic | None:
        """Return the requirements that no measured child meets, with the child that comes nearest; None if a child meets all."""
        found = inputs.refinement_of(self.ctx, self.name)
        if found is None or not found.best.missed:
            return None
        from puzzledsl.pipeline.text.child_text import judged_text

        required = self.declaration.requirements
        first = next(r for r in required if isinstance(r, nodes.LinearRequirement) and r.judged)
        return NoChildIsGoodEnough(
            span_of(first.where),
            search=self.name,
            missed=listed([f"`{text}`" for text in found.best.missed]),
            children=len(found.children),
            nearest=judged_text(found.best),
        )
