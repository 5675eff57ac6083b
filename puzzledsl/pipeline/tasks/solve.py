"""The tasks `solve` and `frontier`: answers of a search, at one point or along one metric."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.ir.references import judged_by, references, without_judges
from puzzledsl.ir.tables import SearchResult
from puzzledsl.pipeline import opening as needs
from puzzledsl.pipeline.compile import not_ready
from puzzledsl.pipeline.inputs import costs_of, scores_of, solution_of, table_inputs
from puzzledsl.pipeline.stamps import meaning
from puzzledsl.pipeline.task import DeclaredTask, Key


class Solve(DeclaredTask[nodes.Search]):
    """Choose one alternative for each sub-block of each layer."""

    stage, after, kind = "solve", "score", "search"
    words = {"search": "the declaration"}
    by_space = True

    def needs(self) -> tuple[Key, ...]:
        return needs.tables(self.ctx, self.name)

    def inputs(self) -> dict[str, str]:
        search = meaning(self.declaration.model_copy(update={"refine": None}))
        return {"search": search, **table_inputs(self.ctx, self.name)}

    def obstacle(self) -> Diagnostic | None:
        return not_ready(self.ctx, self.name)

    def answer(self) -> SearchResult:
        """Solve the search, and keep nothing."""
        from puzzledsl.search.solve import solve_search

        ctx = self.ctx
        tables = costs_of(ctx, self.space), scores_of(ctx, self.name)
        found = solve_search(ctx.program, self.name, *tables, progress=ctx.progress)
        if found.status == "infeasible" and judged_by(
            self.declaration
        ):  # by a prediction, which proves nothing
            program = without_judges(ctx.program, self.name)
            found = solve_search(program, self.name, *tables, progress=ctx.progress)
        return found

    def run(self) -> list[Path]:
        output = self.ctx.build.solution(self.name)
        write_text(output, self.answer().canonical_json())
        return [output]

    def remark(self) -> str:
        result = solution_of(self.ctx, self.name)
        if not result.solutions:
            return f", {result.status}"
        text = f", {result.status}, objective {result.solutions[0].objective:.6g}"
        proof = f", bound {result.bound:.6g}, gap {result.gap or 0:.2g}" if result.bound is not None else ""
        return text + proof

    def dead_end(self) -> Diagnostic | None:
        """Return the conflict of an infeasible search that a later declaration builds on; a baseline may have no solution."""
        result, program = solution_of(self.ctx, self.name), self.program
        later = (*program.uptrains.values(), *program.evals.values(), *program.exports.values())
        wanted = any(self.name in references(declaration) for declaration in later)
        if result.status != "infeasible" or not wanted:
            return None
        from puzzledsl.search.infeasible.verdicts import infeasible_diagnostic

        return infeasible_diagnostic(program, result)


class Frontier(DeclaredTask[nodes.Frontier]):
    """Solve a search at every point of a frontier."""

    stage, after, kind = "frontier", "solve", "frontier"
    words = {"frontier": "the declaration"}
    by_space = True

    @property
    def search(self) -> str:
        """The search that is solved at every point."""
        return self.declaration.search

    def needs(self) -> tuple[Key, ...]:
        return needs.tables(self.ctx, self.search)

    def inputs(self) -> dict[str, str]:
        own = meaning(self.declaration, without=("children",))
        return {"frontier": own, **Solve(self.ctx, self.search).inputs()}

    def run(self) -> list[Path]:
        from puzzledsl.report.pictures.frontier import as_svg
        from puzzledsl.search.frontier import as_csv, solve_frontier

        build, tables = self.ctx.build, (costs_of(self.ctx, self.space), scores_of(self.ctx, self.search))
        result = solve_frontier(self.program, self.name, *tables)
        output, table, plot = (
            build.frontier(self.name),
            build.frontier_csv(self.name),
            build.frontier_plot(self.name),
        )
        write_text(output, result.canonical_json())
        write_text(table, as_csv(self.program, result))
        write_text(plot, as_svg(self.program, result))
        return [output, table, plot]
