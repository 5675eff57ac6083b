"""A solved frontier, and its picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puzzledsl.api.tables import Library
    from puzzledsl.ir.tables import FrontierPoint, FrontierResult
    from puzzledsl.report.subject import Subject


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
        """Draw the objective over the swept metric, as a picture that shows in a notebook. `to_frame` has its figures."""
        return Plot(self)

    def _svg(self) -> str:
        from puzzledsl.report.pictures.frontier import as_svg

        return as_svg(self._subject.program, self._result)

    def __repr__(self) -> str:
        return f"<Frontier {self.name}: {self._proven()}>"

    def _proven(self) -> str:
        proven = sum(p.result.status in ("optimal", "infeasible") for p in self.points)
        return f"{proven} of {len(self.points)} points proven"

    def _repr_html_(self) -> str:
        from puzzledsl.pipeline.text.card import bound_text
        from puzzledsl.report.environment import Table, fragment
        from puzzledsl.report.sections.searches import describe_term

        swept = describe_term(self._subject.program.frontiers[self.name].term)
        rows = []
        for point in self.points:
            answer = point.result
            bound = bound_text(swept, point.target, point.ratio)
            objective = "" if answer.objective is None else f"{answer.objective:.6g}"
            gap = "" if answer.gap is None else f"{answer.gap:.2g}"
            rows.append((bound, answer.status, objective, gap))
        table = Table.of((swept, "status", "objective", "gap"), rows)
        title = f"frontier {self.name}: {self._proven()}"
        return fragment(title, (), [table], svg=self._svg(), svg_text=f"the frontier {self.name}")


class Plot:
    """A frontier as a picture. A notebook shows it; `save` writes it."""

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

        if Path(path).suffix != ".svg":
            raise ValueError(f"{path} is no `.svg`; draw other formats from `Frontier.to_frame()`")
        write_text(Path(path), self._repr_svg_())

    def __repr__(self) -> str:
        return f"<Plot of {self._frontier!r}>"

    def _repr_svg_(self) -> str:
        return self._frontier._svg()
