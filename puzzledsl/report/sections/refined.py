"""Children that were measured around a search's optimum: the ones that matter, in a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from puzzledsl.ir.tables import MeasuredChild, Refinement
from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.pictures.curves import how_measured
from puzzledsl.report.subject import Subject

ORIGINS: dict[str, str] = {
    "optimum": "the optimum of the scores",
    "model": "an optimum of refitted scores",
    "drawn": "an optimum of scores drawn around them",
}
"""Origins of measured children, in words."""
BUILT, REFITTED = "best measured", "optimum of the refitted scores"
OPTIMUM: dict[bool, str] = {True: "proven optimum of the scores", False: "solver's child, not proven"}


RefinedRow = tuple[str, str, Number, Number | None]
"""A child: label, origin of the one that is built, empty for others; what the refitted scores predicted before it was
measured, and its loss. None: not measured."""


@dataclass(frozen=True)
class Refined:
    """Section of a refined search."""

    found: Refinement
    how: str
    rows: tuple[RefinedRow, ...]


def refined(subject: Subject) -> Refined | None:
    """The main search's measured children; None where it was not refined."""
    found = subject.refinement
    if found is None:
        return None
    optimum = OPTIMUM[subject.result is not None and subject.result.status == "optimal"]
    return Refined(found, how_measured(found), tuple(_rows(found, optimum)))


def _rows(found: Refinement, name: str) -> Iterator[RefinedRow]:
    """The child that is built, the solver's (`name`), and the optimum of the refitted scores."""
    yield _row(BUILT, found.best, ORIGINS[found.best.origin])
    if (optimum := found.optimum) is not None and optimum.layers != found.best.layers:
        yield _row(name, optimum)
    if found.model_optimum != found.best.layers:
        known = next((c for c in found.children if c.layers == found.model_optimum), None)
        measured = None if known is None else numbers.plain(known.measured)
        predicted = numbers.plain(found.model_prediction)
        yield REFITTED, "", predicted, measured


def _row(label: str, child: MeasuredChild, origin: str = "") -> RefinedRow:
    predicted = numbers.plain(child.predicted)
    if child.predicted_stderr > 0:
        predicted = Number(predicted.text, predicted.value, f"± {child.predicted_stderr:.2g}")
    return label, origin, predicted, numbers.plain(child.measured)
