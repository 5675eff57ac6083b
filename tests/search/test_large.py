"""A model of eighty layers with 54 choices each, to the proven optimum, also under traffic."""

from fractions import Fraction
from typing import Any

from benchmarks.synthetic import Inputs, synthetic, with_search
from puzzledsl.ir.nodes import CpSat
from puzzledsl.ir.tables import SearchResult
from puzzledsl.search.solve import solve_search


def answer(inputs: Inputs, **search: Any) -> SearchResult:
    program, costs, scores = with_search(inputs, **search)
    return solve_search(program, "best", costs, scores)


def test_eighty_layers_are_solved_to_the_optimum_in_seconds() -> None:
    inputs = synthetic(seed=5, speedup=Fraction(2))
    result = answer(inputs, solver=CpSat(time_s=Fraction(30)), solutions=3, apart=3)
    assert result.status == "optimal"
    assert result.gap is not None and result.gap < 1e-12
    objectives = [s.objective for s in result.solutions]
    assert len(objectives) == 3 and objectives == sorted(objectives)
