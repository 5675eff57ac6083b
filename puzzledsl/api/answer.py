"""The answer of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from puzzledsl.api.tables import Library
    from puzzledsl.ir.tables import ConflictItem, EndsAssignment, LayerAssignment, SearchResult, Solution
    from puzzledsl.report.notebook import Table
    from puzzledsl.report.subject import Subject


class Answer:
    """The answer of a search, verified: a child with its proof, or the requirements that conflict.

    In a notebook it shows the child's layers as a strip, and its metrics beside the parent's.
    """

    def __init__(self, result: SearchResult, subject: Subject) -> None:
        """Wrap a result. `Program.solve` makes answers."""
        self._result, self._subject = result, subject

    @property
    def result(self) -> SearchResult:
        """The whole artefact, as `build/solutions/SEARCH.json` holds it."""
        return self._result

    @property
    def subject(self) -> Subject:
        """The search with its tables: what the pictures of `puzzledsl.report` are drawn from."""
        return self._subject

    @property
    def search(self) -> str:
        """The name of the search."""
        return self._result.search

    @property
    def status(self) -> Literal["optimal", "feasible", "infeasible", "unknown"]:
        """`optimal` only where that is proven; `unknown` where time ran out without a solution."""
        return self._result.status

    @property
    def objective(self) -> float | None:
        """The objective of the best child, in base units or units of the score; None without a solution."""
        return self._result.objective

    @property
    def bound(self) -> float | None:
        """The proven bound: no child of the space has a better objective. None of a heuristic."""
        return self._result.bound

    @property
    def gap(self) -> float | None:
        """|objective - bound| / |objective|: 0 where both are equal, None where either is unknown."""
        return self._result.gap

    @property
    def layers(self) -> tuple[LayerAssignment, ...]:
        """The best child: `.attention` and `.ffn` of each layer, as canonical names. Empty without a solution."""
        return self._best.of_layers if self._best else ()

    @property
    def ends(self) -> EndsAssignment | None:
        """The best child's `.embedding` and `.head`, as canonical names. None without a solution."""
        return self._best.ends if self._best else None

    @property
    def metrics(self) -> dict[str, float]:
        """The best child's metrics in base units (bytes, seconds, tokens/s): `chat.memory`, `params`, `kl`, `chat.batch`."""
        return self._best.figures if self._best else {}

    @property
    def parent_metrics(self) -> dict[str, float]:
        """The parent's metrics at the same batches, in base units."""
        return self._result.parent_metrics

    @property
    def simulated(self) -> dict[str, float]:
        """The best child's latencies under traffic, by a seeded simulation, in seconds: `busy.p95_ttft`, `busy.tpot`."""
        return self._best.simulated if self._best else {}

    @property
    def solutions(self) -> tuple[Solution, ...]:
        """All solutions, the best first: several where the search asks for `solutions N`."""
        return self._result.solutions

    @property
    def conflict(self) -> tuple[ConflictItem, ...]:
        """Smallest set of requirements that conflict, for an infeasible search.

        Each has its `line`, its `text`, and the best that is `reachable` with the others kept.
        """
        return self._result.conflict

    @property
    def advice(self) -> str:
        """Changes that would make an infeasible search solvable; empty for one with a solution."""
        from puzzledsl.search.infeasible.verdicts import no_answer

        problem = no_answer(self._subject.program, self._result)
        return "" if problem is None else problem.help

    def to_frame(self, library: Library | None = None) -> Any:
        """The best child as a data frame with one row a layer.

        Columns: `layer`, `attention`, `ffn`; `SCENARIO.time_s`, the layer's share of the latency in seconds, and the
        score that the layer loses, where they are known. Empty without a solution.
        `library`: "pandas" or "polars"; unless said the one that is imported, else one that is installed (E0671: none is).
        """
        from puzzledsl.api.tables import frame
        from puzzledsl.report.pictures.architecture import strip_of

        strip = strip_of(self._subject)
        rows: list[dict[str, object]] = []
        for column in () if strip is None else strip.columns:
            row: dict[str, object] = {
                "layer": column.index,
                "attention": column.attention.name,
                "ffn": column.ffn.name,
            }
            if strip is not None and strip.scenario and column.time:
                row[f"{strip.scenario}.time_s"] = column.time.value
            if strip is not None and strip.score and column.score:
                row[strip.score] = column.score.value
            rows.append(row)
        return frame(rows, library)

    @property
    def _best(self) -> Solution | None:
        return self._result.solutions[0] if self._result.solutions else None

    def __repr__(self) -> str:
        return f"<Answer {self.search}: {self._proof()}>"

    def _proof(self) -> str:
        parts: list[str] = [self.status]
        parts += [] if self.objective is None else [f"objective {self.objective:.6g}"]
        parts += [] if self.bound is None else [f"bound {self.bound:.6g}"]
        parts += [] if self.gap is None else [f"gap {self.gap:.2g}"]
        return ", ".join(parts)

    def _repr_html_(self) -> str:
        from puzzledsl.report.notebook import fragment
        from puzzledsl.report.pictures.architecture import strip_of

        title = f"search {self.search}: {self._proof()}"
        lines = [self.advice] if self.advice else []
        return fragment(
            title, lines, [self._conflict_table(), self._metric_table()], strip=strip_of(self._subject)
        )

    def _conflict_table(self) -> Table:
        from puzzledsl.ir.search_nodes import written
        from puzzledsl.report.notebook import Table
        from puzzledsl.search.infeasible.verdicts import requirements_by_place

        asked = requirements_by_place(self._subject.search)
        rows = [
            (written(asked[item.line, item.text]), f"line {item.line}", item.reachable)
            for item in self.conflict
        ]
        return Table.of(("conflicting requirement", "", "best with the others kept"), rows, words=3)

    def _metric_table(self) -> Table:
        from puzzledsl.pipeline.text.card import metric_text
        from puzzledsl.report.notebook import Table

        rows = []
        for name, value in sorted(self.metrics.items()):
            parent = self.parent_metrics.get(name)
            beside = ("", "") if not parent else (metric_text(name, parent), f"{value / parent:.3g}x")
            rows.append((name, metric_text(name, value), *beside))
        return Table.of(("", "child", "parent", ""), rows)
