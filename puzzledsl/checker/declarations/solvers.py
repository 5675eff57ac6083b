"""Check of a search's `solver` against the program's measured scores, at check time, long before scores are computed."""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.stage_errors import NothingMeasured
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.references import drops_by_influence, influence_score
from puzzledsl.ir.source_location import span_of


def check_solvers(program: Program, files: Mapping[str, str]) -> list[Diagnostic]:
    """Searches whose solver reads what no score of their space measures. `files`: a place's file -> what diagnostics call it."""
    found: list[Diagnostic] = []
    for name, search in program.searches.items():
        if drops_by_influence(search) and influence_score(program, search) is None:
            at = search.where
            span = span_of(at, files.get(at.file))
            solver = search.solver.kind
            found.append(NothingMeasured(span, search=name, solver=solver, space=search.space))
    return found
