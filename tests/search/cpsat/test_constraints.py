"""The CP-SAT model of a problem allows exactly the answers that meet it: variables fixed, feasible or not."""

from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from ortools.sat.python.cp_model_helper import CpModelProto, CpSolverStatus, SolveWrapper

from puzzledsl.ir.logic import holds
from puzzledsl.ir.nodes import And, Compare, Distinct, Logic, Not, Or, Same, TableTerm, Taken
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.cpsat.solve import model_of, run_cpsat
from puzzledsl.search.problem.columns import Columns
from puzzledsl.search.problem.instance import Effort, Goal, Problem, Row
from puzzledsl.search.problem.normal_form import Formula
from tests.search.instances import counted, formulas, quick, total

PAIRS = tuple(LayerAssignment(attention=a, ffn=f) for a, f in product(("noop", "parent"), repeat=2))
COLUMNS = Columns.of((PAIRS, PAIRS))


def solve(model: CpModelProto) -> Any:
    return SolveWrapper().solve(model)


def allowed(model: CpModelProto, values: dict[int, int]) -> bool:
    """True if the model has an answer with these variables fixed."""
    fixed = CpModelProto()
    fixed.copy_from(model)
    for variable, value in values.items():
        fixed.variables[variable].domain.clear()
        fixed.variables[variable].domain.extend([value, value])
    return solve(fixed).status in (CpSolverStatus.OPTIMAL, CpSolverStatus.FEASIBLE)


def problem_of(
    *formulas: Logic, columns: Columns = COLUMNS, values: list[int] | None = None, rows: tuple[Row, ...] = ()
) -> Problem:
    """A problem with these formulas and rows, and no goal but `values`."""
    goal = Goal(np.array(values or [0] * len(columns), dtype=np.int64), constant=Fraction(1, 2))
    named = tuple(Formula(f"formula {i}", formula) for i, formula in enumerate(formulas))
    return Problem(name="p", columns=columns, goal=goal, rows=rows, formulas=named, batches={})


def assert_means(formula: Logic) -> None:
    """The model allows the pairs of columns for which a formula holds."""
    model = model_of(problem_of(formula))
    for one, other in product(range(4), range(4)):
        taken = {column: int(column in (one, 4 + other)) for column in range(8)}
        assert allowed(model, taken) == holds(formula, {0: PAIRS[one], 1: PAIRS[other]})


def between(op: Any, bound: int, *factors: int) -> Logic:
    """The sum of two or three tables of layers, each times a factor, compared with a bound."""
    table, two, five = ("noop", "parent"), Fraction(2), Fraction(5)
    tables = (
        TableTerm(attention=table, ffn=(), values=((Fraction(0),), (two,)), layers=(0,)),
        TableTerm(attention=(), ffn=table, values=((Fraction(1), Fraction(3)),), layers=(1,)),
        TableTerm(attention=table, ffn=(), values=((five,), (Fraction(0),)), layers=(1,)),
    )
    return Compare(left=total(*zip(factors, tables, strict=False)), op=op, bound=Fraction(bound))


SUMS = [
    between(op, bound, *factors)
    for op in ("<=", ">", "==")
    for bound in (-1, 2, 3)
    for factors in ((1, 1), (1, -1), (2, 1, -1))
]
SUMS += [
    Or(operands=(SUMS[0], SUMS[11])),
    Not(operand=And(operands=(SUMS[4], SUMS[8]))),
    counted((SUMS[3], SUMS[13], SUMS[17]), at_least=1, at_most=2),
]
ALIKE = Taken(attention=("noop", "parent"), ffn=(), values=(("a",), ("b",)), layers=(0, 1))
SUMS += [
    Same(left=0, right=1, sub_blocks=("attention", "ffn")),
    Distinct(taken=(ALIKE,), at_most=1),
    Not(operand=Distinct(taken=(ALIKE,), at_most=1)),
]


@pytest.mark.parametrize("formula", SUMS)
def test_numbers_of_layers_are_compared(formula: Logic) -> None:
    assert_means(formula)


@quick(20)
@given(formulas(2))
def test_a_formula_holds_where_it_is_true(formula: Logic) -> None:
    assert_means(formula)


@pytest.mark.parametrize("period", [2, 3])
def test_dropped_layers_are_numbered_in_order(period: int) -> None:
    columns = Columns.of((PAIRS[::3],) * 4).with_positions(period, [PAIRS[0]] * 4)  # or as in the parent
    problem = problem_of(columns=columns)
    model = model_of(problem)
    spans = [range(int(b), int(e)) for b, e in pairwise(columns.start)]
    seen = 0
    for chosen in product(*spans):
        count, right = 0, True
        for position in columns.position[list(chosen)].tolist():
            count = count % period + 1 if position else 0
            right &= position == count
        seen += right
        assert allowed(model, {c: int(c in chosen) for c in range(len(columns))}) == right
        assert problem.meeting_formulas(np.array([chosen]))[0] == right
    assert seen == 2**4


def test_the_goal_is_in_its_integers_and_a_hint_changes_nothing() -> None:
    problem = problem_of(values=[7, 2, 9, 4] * 2)
    assert solve(model_of(problem)).objective_value == 4.5
    for hint in (None, np.array([2, 6], dtype=np.int64)):
        found = run_cpsat(problem, Effort.of(60), hint).chosen
        assert found is not None and found.tolist() == [1, 5]
