"""Linearised products in CP-SAT (Glover & Woolsey 1974): a Boolean for each place, and one for each product that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from puzzledsl.search.cpsat.constraints import (
    add_hint,
    add_limit,
    add_one_column_a_layer,
    new_bool,
    new_choices,
)
from puzzledsl.search.cpsat.formulas import FormulaWriter
from puzzledsl.search.cpsat.solve import Answer, parameters_of, solve_interruptibly
from puzzledsl.search.effort import Effort
from puzzledsl.search.pairwise.quadratic import Quadratic
from puzzledsl.search.problem.columns import Ints

if TYPE_CHECKING:
    from ortools.sat.python.cp_model_helper import CpModelProto

MOST_PRODUCTS = 1500
LARGEST_GOAL = 2**62


def number_of_products(quadratic: Quadratic) -> int:
    """Return the number of pairs of open places with a pairwise value."""
    first, _ = _pairs(quadratic)
    return len(first)


def _open_places(quadratic: Quadratic) -> Ints:
    """Return the places that some models have and others do not."""
    columns = quadratic.problem.columns
    sizes = np.zeros(quadratic.count, dtype=np.int64)
    np.add.at(sizes, quadratic.places[:, 0], 1)
    apart = quadratic.places[:, 1] != quadratic.places[:, 0]
    np.add.at(sizes, quadratic.places[apart, 1], 1)
    whole = np.zeros(quadratic.count, dtype=np.int64)
    for column in range(2):
        whole[quadratic.places[:, column]] = columns.sizes[columns.layer_of]
    return np.asarray(((sizes > 0) & (sizes < whole)).nonzero()[0], dtype=np.int64)


def _pairs(quadratic: Quadratic) -> tuple[Ints, Ints]:
    places = _open_places(quadratic)
    part = np.triu(quadratic.matrix[np.ix_(places, places)])
    first, second = part.nonzero()
    return places[first], places[second]


def solve_products(
    quadratic: Quadratic, cut: Ints, room: int, hint: Ints, at_least: int | None, effort: Effort
) -> Answer:
    """Solve a quadratic problem by CP-SAT, among models whose tangent `cut` is at most `room`.

    Every model better than `hint` satisfies this cut. `at_least`: proven lower bound on the quadratic sum.
    """
    from ortools.sat.python.cp_model_helper import CpModelProto, CpSolverStatus, SolveWrapper

    problem = quadratic.problem
    model = CpModelProto()
    choices = new_choices(model, problem.columns)
    add_one_column_a_layer(model, problem.columns, choices)
    for row in problem.rows:
        add_limit(model, choices, row.coefficients, limit=row.limit, name=row.name)
    add_limit(model, choices, cut, limit=room, name="tangent")
    pool, formulas = problem.normal
    writer = FormulaWriter(model, pool, problem.columns, choices)
    for number, formula in zip(formulas, problem.formulas, strict=True):
        writer.add(number, formula.name)
    linear, constant = _settled(quadratic)
    _add_goal(model, choices, problem.goal.values + quadratic.column_values(linear), constant)
    _add_products(model, quadratic)
    add_hint(model, hint, len(problem.columns))
    if at_least is not None:
        model.objective.domain.extend([at_least - constant, LARGEST_GOAL])
    solver = SolveWrapper()
    solver.set_parameters(parameters_of(effort))
    response = solve_interruptibly(solver, model)
    if response.status not in (CpSolverStatus.OPTIMAL, CpSolverStatus.FEASIBLE):
        return Answer(None, None, False)
    values = np.array(list(response.solution)[: len(problem.columns)], dtype=np.int64)
    bound = int(response.inner_objective_lower_bound) + constant
    return Answer(values.nonzero()[0].astype(np.int64), bound, response.status == CpSolverStatus.OPTIMAL)


def _settled(quadratic: Quadratic) -> tuple[Ints, int]:
    """Return the pairwise values of open places with the places of every model, by place, and the sum among the latter."""
    is_open = np.zeros(quadratic.count, dtype=np.bool_)
    is_open[_open_places(quadratic)] = True
    present = np.zeros(quadratic.count, dtype=np.bool_)
    present[quadratic.places.ravel()] = True
    always = (present & ~is_open).astype(np.int64)
    pull = quadratic.matrix @ always
    return np.where(is_open, pull, 0), int(pull @ always) // 2


def _add_goal(model: CpModelProto, choices: list[int], values: Ints, constant: int) -> None:
    used = values.nonzero()[0].tolist()
    model.objective.vars.extend([choices[i] for i in used])
    model.objective.coeffs.extend(values[used].tolist())
    model.objective.offset = float(constant)


def _add_products(model: CpModelProto, quadratic: Quadratic) -> None:
    """Add z = a and b for each product to the objective: z >= a + b - 1 if its value is positive, else z <= a and z <= b."""
    first, second = _pairs(quadratic)
    booleans = {
        int(p): _place(model, quadratic, int(p)) for p in np.unique(np.concatenate([first, second])).tolist()
    }
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        value = int(quadratic.matrix[a, b])
        both = new_bool(model, f"{a} and {b}")
        model.objective.vars.append(both)
        model.objective.coeffs.append(value)
        if value > 0:
            clause = model.constraints.add()
            clause.bool_or.literals.extend([-booleans[a] - 1, -booleans[b] - 1, both])
        else:
            for one in (booleans[a], booleans[b]):
                clause = model.constraints.add()
                clause.bool_or.literals.extend([-both - 1, one])


def _place(model: CpModelProto, quadratic: Quadratic, place: int) -> int:
    """Return a Boolean equal to the sum of a place's columns; the column's own variable if there is only one."""
    columns = (quadratic.places == place).any(axis=1).nonzero()[0].tolist()
    if len(columns) == 1:
        return int(columns[0])
    boolean = new_bool(model, f"place {place}")
    constraint = model.constraints.add()
    constraint.linear.vars.extend([*columns, boolean])
    constraint.linear.coeffs.extend([*([1] * len(columns)), -1])
    constraint.linear.domain.extend([0, 0])
    return boolean
