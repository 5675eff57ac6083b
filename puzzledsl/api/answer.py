"""The answer of a search.

Any child of a search, with exact figures.

A solved frontier, and its picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fractions import Fraction

    from puzzledsl.api.tables import Library
    from puzzledsl.ir.tables import (
        Assignment,
        ConflictItem,
        EndsAssignment,
        FrontierPoint,
        FrontierResult,
        LayerAssignment,
        SearchResult,
        Solution,
    )
    from puzzledsl.report.subject import Subject
    from puzzledsl.search.answer import ChildFigures, RequirementFigures


class Answer:
    """The answer of a search, verified: a child with its proof, or the requirements that conflict."""

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


class Child:
    """Exact metrics and requirements of a child, from the tables that the solver reads: for searches of your own."""

    def __init__(self, figures: ChildFigures, search: str) -> None:
        """Wrap figures. `Program.metrics` makes children."""
        self._figures, self._search = figures, search

    @property
    def layers(self) -> tuple[LayerAssignment, ...]:
        """The choice of each layer."""
        from puzzledsl.ir.tables import layers_of_child

        return layers_of_child(self._figures.layers)

    @property
    def ends(self) -> EndsAssignment:
        """The choice of embedding and head."""
        from puzzledsl.ir.tables import ends_of_child

        return ends_of_child(self._figures.layers)

    @property
    def objective(self) -> Fraction:
        """The search's objective, exact."""
        return self._figures.objective

    @property
    def metrics(self) -> dict[str, Fraction]:
        """Every metric, exact, in base units: `chat.memory` in bytes, `chat.latency` in seconds, `params`, scores."""
        return self._figures.metrics

    @property
    def batches(self) -> dict[str, int]:
        """The batch of each scenario."""
        return self._figures.batches

    @property
    def requirements(self) -> tuple[RequirementFigures, ...]:
        """Each requirement: its `line` and `text`, whether it `holds`, and the exact `value` and `bound` it compares.

        `value` and `bound` are in base units; None of a statement about layers.
        """
        return self._figures.requirements

    @property
    def feasible(self) -> bool:
        """True where the child meets every requirement, and fits the memory where a batch is `auto`."""
        return self._figures.feasible

    def __repr__(self) -> str:
        broken = [r.text for r in self.requirements if not r.holds]
        state = "feasible" if self.feasible else f"breaks {', '.join(broken) or 'the memory'}"
        return f"<Child of {self._search}: objective {float(self.objective):.6g}, {state}>"


def assignments(layers: Iterable[Assignment | tuple[str, str]]) -> tuple[Assignment, ...]:
    """Layers as the tables name them; (attention, FFN) pairs of names do, too. The ends may follow."""
    from puzzledsl.ir.tables import LayerAssignment

    return tuple(
        LayerAssignment(attention=each[0], ffn=each[1]) if isinstance(each, tuple) else each
        for each in layers
    )


class Frontier:
    """The best child at every value of one metric, each point with its proof."""

    def __init__(self, result: FrontierResult, subject: Subject) -> None:
        """Wrap a result. `Program.frontier` makes frontiers."""
        self._result, self._subject = result, subject

    @property
    def result(self) -> FrontierResult:
        """The whole artefact, as `build/search/FRONTIER.json` holds it."""
        return self._result

    @property
    def name(self) -> str:
        """The name of the frontier."""
        return self._result.frontier

    @property
    def points(self) -> tuple[FrontierPoint, ...]:
        """The points in sweep order: `target` in base units, `ratio` to the parent's or None, and the `result` there."""
        return self._result.points

    def to_frame(self, library: Library | None = None) -> Any:
        """The frontier as a data frame with one row a point: the columns of `build/search/FRONTIER.csv`.

        Columns: `bound:METRIC[unit]`, `times_parent`, `status`, `objective`, `proven_bound`, `gap`, and every metric of
        the child in base units.
        `library`: "pandas" or "polars"; unless said the one that is imported, else one that is installed (E0671: none is).
        """
        from puzzledsl.api.tables import frame
        from puzzledsl.search.frontier import rows_of

        head, rows = rows_of(self._subject.program, self._result)
        return frame([dict(zip(head, row, strict=True)) for row in rows], library)

    def plot(self) -> Plot:
        """Draw the objective over the swept metric, as a picture. `to_frame` has its figures."""
        return Plot(self)

    def __repr__(self) -> str:
        return f"<Frontier {self.name}: {self._proven()}>"

    def _proven(self) -> str:
        proven = sum(p.result.status in ("optimal", "infeasible") for p in self.points)
        return f"{proven} of {len(self.points)} points proven"


class Plot:
    """A frontier as a picture, which `save` writes."""

    def __init__(self, frontier: Frontier) -> None:
        """Wrap a frontier. `Frontier.plot` makes plots."""
        self._frontier = frontier

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture as SVG.

        Args:
            path: The file, `.svg`.

        Raises:
            ValueError: The file has another suffix.
        """
        from puzzledsl.base.files import write_text
        from puzzledsl.report.pictures.frontier import as_svg

        if Path(path).suffix != ".svg":
            raise ValueError(f"{path} is no `.svg`; draw other formats from `Frontier.to_frame()`")
        write_text(Path(path), as_svg(self._frontier._subject.program, self._frontier.result))

    def __repr__(self) -> str:
        return f"<Plot of {self._frontier!r}>"
