"""Answers of a search along one metric."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.base.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.pipeline import needs
from puzzledsl.pipeline.digests import meaning
from puzzledsl.pipeline.inputs import costs_of, scores_of
from puzzledsl.pipeline.task import DeclaredTask, Key
from puzzledsl.pipeline.tasks.solve import Solve


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
