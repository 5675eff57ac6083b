"""Constraints of the CP-SAT model, one function for each kind. A choice is a literal: one Boolean variable per column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from puzzledsl.search.problem.columns import Columns, Ints

if TYPE_CHECKING:
    from ortools.sat.python.cp_model_helper import CpModelProto

LEAST = -(2**62)


def new_choices(
    model: CpModelProto, columns: Columns, layers: Sequence[int] | None = None, *, named: bool = True
) -> list[int]:
    """Add a Boolean for each column of `layers` (default: all). Return each column's variable, -1 for other layers.

    `named`: give variables readable names, `layer/attention/ffn`, with `#k` appended for the k-th layer of a dropped run.
    """
    wanted = range(columns.layers) if layers is None else frozenset(layers)
    if not named:
        return [new_bool(model) if layer in wanted else -1 for layer in columns.layer_of.tolist()]
    variables = []
    named_columns = zip(columns.layer_of.tolist(), columns.choices, columns.position.tolist(), strict=True)
    for layer, choice, position in named_columns:
        name = f"{layer}/{choice.attention}/{choice.ffn}" + (f"#{position}" if position else "")
        variables.append(new_bool(model, name) if layer in wanted else -1)
    return variables


def new_bool(model: CpModelProto, name: str = "") -> int:
    """Add a Boolean variable and return its index."""
    variable = model.variables.add()
    if name:
        variable.name = name
    variable.domain.extend((0, 1))
    return len(model.variables) - 1


def new_counts(model: CpModelProto, number: int, *, most: int) -> list[int]:
    """Add `number` integer variables from 0 to `most` and return their indices."""
    first = len(model.variables)
    for _ in range(number):
        model.variables.add().domain.extend([0, most])
    return list(range(first, first + number))


def add_counts(model: CpModelProto, counts: Sequence[int], *, total: int) -> None:
    """Constrain the counts to add up to `total`, the number of interchangeable layers."""
    constraint = model.constraints.add()
    constraint.linear.vars.extend(counts)
    constraint.linear.coeffs.extend([1] * len(counts))
    constraint.linear.domain.extend([total, total])


def add_one_column_a_layer(
    model: CpModelProto, columns: Columns, choices: Sequence[int], layers: Sequence[int] | None = None
) -> None:
    """Constrain each of `layers` (default: all) to exactly one of its columns."""
    for layer in range(columns.layers) if layers is None else layers:
        constraint = model.constraints.add()
        constraint.name = f"layer {layer}"
        begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
        constraint.exactly_one.literals.extend(choices[begin:end])


def add_runs(model: CpModelProto, columns: Columns, choices: Sequence[int]) -> None:
    """Constrain positions in runs of dropped layers: 1 follows a kept layer or a full period, and k follows k - 1."""
    for column in columns.position.nonzero()[0].tolist() if columns.period else []:
        layer, position = int(columns.layer_of[column]), int(columns.position[column])
        before = range(int(columns.start[layer - 1]), int(columns.start[layer])) if layer else range(0)
        if position > 1:
            constraint = model.constraints.add()
            wanted = [choices[i] for i in before if columns.position[i] == position - 1]
            constraint.bool_or.literals.extend([-choices[column] - 1, *wanted])
        else:
            others = [choices[i] for i in before if columns.position[i] % columns.period]
            if not others:
                continue
            constraint = model.constraints.add()
            constraint.at_most_one.literals.extend([choices[column], *others])
        constraint.name = f"run at layer {layer}"


def add_limit(
    model: CpModelProto, choices: Sequence[int], coefficients: Ints, *, limit: int, name: str
) -> None:
    """Constrain `sum(coefficients[chosen]) <= limit`: a resource or count limit, or a distance from another answer."""
    used = coefficients.nonzero()[0].tolist()
    constraint = model.constraints.add()
    constraint.name = name
    constraint.linear.vars.extend([choices[i] for i in used])
    constraint.linear.coeffs.extend(coefficients[used].tolist())
    constraint.linear.domain.extend([LEAST, limit])


def minimise(model: CpModelProto, variables: Sequence[int], values: Ints, *, offset: float) -> None:
    """Set the objective, in integers without a scaling factor.

    A small factor would make CP-SAT's default absolute gap of 1e-4 larger than the difference of two integer objectives.
    """
    used = values.nonzero()[0].tolist()
    model.objective.vars.extend([variables[i] for i in used])
    model.objective.coeffs.extend(values[used].tolist())
    model.objective.offset = offset


def add_hint(model: CpModelProto, chosen: Ints, columns: int) -> None:
    """Add a complete hint to start from: the columns in `chosen` are true, all others false."""
    values = [0] * columns
    for column in chosen.tolist():
        values[column] = 1
    model.solution_hint.vars.extend(range(columns))
    model.solution_hint.values.extend(values)
