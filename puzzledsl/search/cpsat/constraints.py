"""Constraints of the CP-SAT model, one function for each kind. A choice is a literal: one Boolean variable per column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or
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


def add_formula(
    model: CpModelProto, columns: Columns, choices: Sequence[int], formula: Logic, *, name: str
) -> None:
    """Add a propositional requirement over choices as clauses."""
    for clause in _clauses(model, columns, choices, formula, True, name):
        constraint = model.constraints.add()
        constraint.name = name
        constraint.bool_or.literals.extend(sorted(clause))


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


def _clauses(
    model: CpModelProto,
    columns: Columns,
    choices: Sequence[int],
    formula: Logic,
    wanted: bool,
    name: str,
) -> list[frozenset[int]]:
    """Return clauses that can be satisfied, by some value of the helpers, exactly if `formula` has the value `wanted`.

    A disjunct of several clauses is replaced by a helper Boolean that implies them.
    """

    def of(part: Logic, value: bool) -> list[frozenset[int]]:
        return _clauses(model, columns, choices, part, value, name)

    def any_of(parts: list[list[frozenset[int]]]) -> list[frozenset[int]]:
        clause: frozenset[int] = frozenset()
        for part in parts:
            if not part:
                return []
            clause |= part[0] if len(part) == 1 else {_implying(model, part, name)}
        return [clause]

    match formula:
        case Is(layer=layer, sub_block=sub_block, alternatives=alternatives):
            begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
            here = [
                choices[i]
                for i in range(begin, end)
                if (getattr(columns.choices[i], sub_block) in alternatives) == wanted
            ]
            return [] if len(here) == end - begin else [frozenset(here)]
        case Not(operand=operand):
            return of(operand, not wanted)
        case And(operands=operands) | Or(operands=operands):
            parts = [of(operand, wanted) for operand in operands]
            if isinstance(formula, And) == wanted:
                return [clause for part in parts for clause in part]
            return any_of(parts)
        case Implies(condition=condition, consequence=consequence):
            parts = [of(condition, not wanted), of(consequence, wanted)]
            return any_of(parts) if wanted else [clause for part in parts for clause in part]
        case Cardinality(operands=operands, at_least=least, at_most=most):
            most = len(operands) if most is None else most
            bounds = [(least, most)] if wanted else [(0, least - 1), (most + 1, len(operands))]
            bounds = [(low, high) for low, high in bounds if low <= high and low <= len(operands)]
            if any(low <= 0 and high >= len(operands) for low, high in bounds):
                return []
            literals = [_equivalent(model, choices, of(o, True), of(o, False), name) for o in operands]
            return [frozenset(_counting(model, literals, low, high, name) for low, high in bounds)]
        case _:
            assert_never(formula)


def _implying(model: CpModelProto, clauses: list[frozenset[int]], name: str) -> int:
    """Add and return a Boolean that implies all of `clauses`."""
    helper = new_bool(model, f"part of {name}")
    for clause in clauses:
        constraint = model.constraints.add()
        constraint.name = name
        constraint.bool_or.literals.extend(sorted({*clause, -helper - 1}))
    return helper


def _equivalent(
    model: CpModelProto,
    choices: Sequence[int],
    clauses: list[frozenset[int]],
    opposite: list[frozenset[int]],
    name: str,
) -> int:
    """Return a literal that is true exactly if all of `clauses` hold. `opposite`: the clauses of their negation."""
    if len(clauses) == 1 and len(clauses[0]) == 1 and max(clauses[0]) <= choices[-1]:
        return max(
            clauses[0]
        )  # a column's own literal; a helper is not enough, since it may be false although its clauses hold
    helper = _implying(model, clauses, name)
    for clause in opposite:
        constraint = model.constraints.add()
        constraint.name = name
        constraint.bool_or.literals.extend(sorted({*clause, helper}))
    return helper


def _counting(model: CpModelProto, literals: Sequence[int], low: int, high: int, name: str) -> int:
    """Add and return a Boolean that implies that the number of true literals is from `low` to `high`."""
    helper = new_bool(model, f"part of {name}")
    constraint = model.constraints.add()
    constraint.name = name
    constraint.enforcement_literal.append(helper)
    constant = 0
    for literal in literals:  # a negative literal is 1 minus its variable
        constraint.linear.vars.append(literal if literal >= 0 else -literal - 1)
        constraint.linear.coeffs.append(1 if literal >= 0 else -1)
        constant += literal < 0
    constraint.linear.domain.extend([low - constant, high - constant])
    return helper
