"""Children that were measured around a search's optimum: the ones that matter, in a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import ScoreTerm
from puzzledsl.ir.tables import Assignment, MeasuredChild, Refinement
from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.pictures.curves import how_measured
from puzzledsl.report.subject import Subject
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import tables_of

ORIGINS: dict[str, str] = {
    "optimum": "the optimum of the scores",
    "model": "an optimum of refitted scores",
    "drawn": "an optimum of scores drawn around them",
}
"""Origins of measured children, in words."""
BUILT, REFITTED = "best measured", "optimum of the refitted scores"
OPTIMUM: dict[bool, str] = {True: "proven optimum of the scores", False: "solver's child, not proven"}


RefinedRow = tuple[str, str, bool, Number | None, Number | None, Number | None]
"""A child: label, origin of the one that is built, True if it is that; sum of scores, what the refitted scores predicted before
it was measured, and its loss. None: not known."""


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
    sums = _sums(subject, found)
    optimum = OPTIMUM[subject.result is not None and subject.result.status == "optimal"]
    return Refined(found, how_measured(found), tuple(_rows(found, sums, optimum)))


Sums = dict[tuple[Assignment, ...], float]


def _sums(subject: Subject, found: Refinement) -> Sums:
    """The sum of scores of each child; nothing where tables are missing or of another version of the space."""
    costs, goal = subject.costs, ScoreTerm(score=found.score)
    if costs is None:
        return {}
    layers = [*(child.layers for child in found.children), found.model_optimum]
    try:
        tables = tables_of(subject.program, subject.name, costs, subject.found.scores)
        return {each: float(Child(tables, each, {}).term(goal)) for each in layers}
    except (DiagnosticError, KeyError, IndexError):
        return {}


def _rows(found: Refinement, sums: Sums, name: str) -> Iterator[RefinedRow]:
    """The child that is built, the solver's (`name`), and the optimum of the refitted scores."""
    yield _row(BUILT, found.best, sums, is_built=True)
    if (optimum := found.optimum) is not None and optimum.layers != found.best.layers:
        yield _row(name, optimum, sums)
    if found.model_optimum != found.best.layers:
        known = next((c for c in found.children if c.layers == found.model_optimum), None)
        measured = None if known is None else numbers.plain(known.measured)
        predicted = numbers.plain(found.model_prediction)
        yield REFITTED, "", False, _sum(found.model_optimum, sums), predicted, measured


def _row(label: str, child: MeasuredChild, sums: Sums, *, is_built: bool = False) -> RefinedRow:
    predicted = numbers.plain(child.predicted)
    if child.predicted_stderr > 0:
        predicted = Number(predicted.text, predicted.value, f"± {child.predicted_stderr:.2g}")
    origin = ORIGINS[child.origin] if is_built else ""
    return label, origin, is_built, _sum(child.layers, sums), predicted, numbers.plain(child.measured)


def _sum(layers: tuple[Assignment, ...], sums: Sums) -> Number | None:
    return numbers.plain(sums[layers]) if layers in sums else None
