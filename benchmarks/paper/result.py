"""A table of the paper, and its results here: rows, claims with their verdicts, and what paper.json keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.paper.estimate import Estimate, exact, verdict

if TYPE_CHECKING:
    from benchmarks.paper.study import Study

Cell = str | Estimate


@dataclass(frozen=True)
class Claim:
    """A finding of the paper as a figure that is positive where it holds here as well.

    `statement` reads "X loses less than Y at 1.5x"; `gain` is what Y loses more than X.
    """

    statement: str
    gain: Estimate
    unit: str = "nats"

    def as_json(self) -> dict[str, Any]:
        """The statement, the figure and the verdict."""
        return {
            "statement": self.statement,
            "gain": self.gain.as_json(),
            "unit": self.unit,
            "verdict": verdict(self.gain),
        }


@dataclass(frozen=True)
class Result:
    """The outcome of a table's program.

    Attributes:
        columns: Titles, the first of the rows' names.
        rows: A cell a column. A number is an Estimate, `exact(…)` where nothing was sampled.
        claims: The paper's findings, each with its verdict.
        reading: One to four sentences for a reader. Figures in it are written as `{NAME}` and taken from `figures`.
        figures: Named figures of the reading and of pictures.
        series: Points of a picture, by name: `(x, y)` each.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | float | int]]
    claims: Sequence[Claim]
    reading: str
    figures: Mapping[str, float] | None = None
    series: Mapping[str, Sequence[tuple[float, Estimate | float]]] | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it, as plain JSON."""
        return {
            "columns": list(self.columns),
            "rows": [[_cell(cell) for cell in row] for row in self.rows],
            "claims": [claim.as_json() for claim in self.claims],
            "reading": self.reading,
            "figures": {
                name: exact(value).as_json()["value"] for name, value in (self.figures or {}).items()
            },
            "series": {
                name: [[exact(x).as_json()["value"], _cell(y)] for x, y in points]
                for name, points in (self.series or {}).items()
            },
        }


def _cell(cell: Cell | float | int) -> Any:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Estimate):
        return cell.as_json()
    return exact(float(cell)).as_json()


@dataclass(frozen=True)
class Table:
    """A table or a figure of the paper and the way to redo it.

    Attributes:
        name: `table11`, also the name of the program in examples/paper.
        title: `Table 11`.
        question: What it asks, a line that ends with a question mark.
        paper: The paper's own figures, in a line or a small Markdown table.
        run: Makes and judges the children.
        decimals: Decimals of the figures that docs/paper.md shows.
    """

    name: str
    title: str
    question: str
    paper: str
    run: Callable[[Study], Result]
    decimals: int = 3

    @property
    def program(self) -> str:
        """The file in examples/paper."""
        return f"{self.name}.pzl"
