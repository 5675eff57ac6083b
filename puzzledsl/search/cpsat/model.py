"""CP-SAT model of a problem: a Boolean for each column, its rows, and its formulas in normal form.

A part of a formula that is required becomes clauses, or a linear constraint of the columns' own Booleans. A part inside a
disjunction or a count has a helper Boolean: one that implies it, or, for the upper limit of a count, one that it implies.
A literal is a variable v, or -v - 1 for its negation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, assert_never

import numpy as np

from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.residuals import FALSE, TRUE, Atom, Count, Joined, Sum
from puzzledsl.search.problem.symmetry import Alike

if TYPE_CHECKING:
    from ortools.sat.python.cp_model_helper import ConstraintProto, CpModelProto

LEAST = -(2**62)


def model_of(problem: Problem, *, named: bool = True) -> CpModelProto:
    """Build the CP-SAT model of a problem. Variable i is column i; `named` gives it a readable name.

    Names are `layer/attention/ffn`, with `#k` appended for the k-th layer of a dropped run.
    """
    return counting_model(problem, (), named=named)


def counting_model(problem: Problem, symmetry: Sequence[Alike], *, named: bool = False) -> CpModelProto:
    """Build the model with symmetric layers aggregated.

    Its variables are a Boolean for each column of the layers in no class, a count for each choice of each class, then helpers.
    """
    inside = counted_layers(problem, symmetry)
    writer = ModelWriter(problem, [i for i in range(problem.columns.layers) if i not in inside], named=named)
    loose = (writer.choices >= 0).nonzero()[0]
    variables = writer.choices[loose].tolist()
    figures = [np.vstack([problem.goal.values, problem.matrix])[:, loose]]
    for alike in symmetry:
        counts = [writer.variable(len(alike.tuples)) for _ in alike.figures]
        writer.linear(counts, [1] * len(counts), len(alike.tuples), len(alike.tuples))
        variables += counts
        figures.append(alike.figures.T)
    goal, *rows = np.hstack(figures)
    for row, coefficients in zip(problem.rows, rows, strict=True):
        used = coefficients.nonzero()[0].tolist()
        writer.name = row.name
        writer.linear([variables[i] for i in used], coefficients[used].tolist(), LEAST, row.limit)
    names = [formula.name for formula in problem.formulas]
    runs = [(number, "run") for number in problem.normal.runs]
    for number, name in [*runs, *zip(problem.normal.formulas, names, strict=True)]:
        if not any(problem.normal.layers[number] >> layer & 1 for layer in inside):
            writer.require(number, name)
    used = goal.nonzero()[0].tolist()
    # without a scaling factor: a small one would make CP-SAT's absolute gap of 1e-4 larger than a step of the integers
    writer.model.objective.vars.extend([variables[i] for i in used])
    writer.model.objective.coeffs.extend(goal[used].tolist())
    writer.model.objective.offset = float(problem.goal.sign * problem.goal.constant / problem.goal.unit)
    return writer.model


def counted_layers(problem: Problem, symmetry: Sequence[Alike]) -> frozenset[int]:
    """Return the layers in classes of interchangeable layers."""
    return frozenset(i for a in symmetry for i in problem.columns.layer_of[a.tuples[:, 0]].ravel().tolist())


class ModelWriter:
    """Adds constraints to a model. `choices[column]`: its Boolean, or -1. `name`: that of the next constraints."""

    def __init__(self, problem: Problem, layers: Sequence[int], *, named: bool) -> None:
        from ortools.sat.python.cp_model_helper import CpModelProto

        self.model, self.pool, self.columns = CpModelProto(), problem.normal, problem.columns
        self.model.name = self.name = problem.name
        self.choices: Ints = np.full(len(self.columns), -1, dtype=np.int64)
        self._helpers: dict[int, int] = {}
        self._equal: set[int] = set()
        for layer in layers:
            here = self.columns.span(layer)
            names = [""] * (here.stop - here.start)
            if named:
                runs = (f"#{k}" if k else "" for k in self.columns.position[here].tolist())
                pairs = zip(self.columns.of_layer(layer), runs, strict=True)
                names = [f"{layer}/{choice.attention}/{choice.ffn}{run}" for choice, run in pairs]
            self.choices[here] = [self.variable(1, name) for name in names]
            self.name = f"layer {layer}"
            self._constraint().exactly_one.literals.extend(self.choices[here].tolist())

    def variable(self, most: int, name: str = "") -> int:
        """Add an integer variable from 0 to `most` and return its index."""
        variable = self.model.variables.add()
        if name:
            variable.name = name
        variable.domain.extend((0, most))
        return len(self.model.variables) - 1

    def _constraint(self) -> ConstraintProto:
        constraint: ConstraintProto = self.model.constraints.add()
        constraint.name = self.name
        return constraint

    def linear(
        self,
        variables: Sequence[int],
        coefficients: Sequence[int],
        least: int,
        most: int,
        enforced: Sequence[int] = (),
    ) -> None:
        """Require a sum from `least` to `most`, if literals are given wherever they are true."""
        constraint = self._constraint()
        constraint.linear.vars.extend(variables)
        constraint.linear.coeffs.extend(coefficients)
        constraint.linear.domain.extend([least, most])
        constraint.enforcement_literal.extend([*enforced])

    def _clause(self, literals: set[int], enforced: Sequence[int]) -> None:
        self._constraint().bool_or.literals.extend(sorted({*literals, *(-e - 1 for e in enforced)}))

    def _weighted(
        self, weighted: Iterable[tuple[int, int]], least: int, most: int, enforced: Sequence[int]
    ) -> None:
        """Require a sum of weights of true literals from `least` to `most`."""
        constant, coefficients = 0, dict[int, int]()
        for literal, weight in weighted:  # a negative literal is 1 minus its variable
            variable, sign = (literal, 1) if literal >= 0 else (-literal - 1, -1)
            coefficients[variable] = coefficients.get(variable, 0) + sign * weight
            constant += 0 if literal >= 0 else weight
        self.linear([*coefficients], [*coefficients.values()], least - constant, most - constant, enforced)

    def _literals(self, layer: int, mask: int) -> list[int]:
        begin = int(self.columns.start[layer])
        return [int(self.choices[begin + bit]) for bit in range(mask.bit_length()) if mask >> bit & 1]

    # ---------------------------------------------------------------- formulas

    def require(self, formula: int, name: str) -> None:
        """Require a formula of the pool; its constraints get the name."""
        self.name = name
        self._require(formula)

    def _require(self, formula: int, *enforced: int) -> None:
        """Require a formula, if the Boolean `enforced` is given wherever that is true."""
        match self.pool.nodes[formula]:
            case Joined(parts=parts, every=True):
                for part in parts:
                    self._require(part, *enforced)
            case Count(parts=parts, least=least, most=most):
                counted = (
                    literal for part in parts for literal in self._counted(part, least, most < len(parts))
                )
                self._weighted([(literal, 1) for literal in counted], least, most, enforced)
            case Sum(terms=[(first, own), (second, other)], least=least, most=most):
                self._between_two(first, own, second, other, least, most, enforced)
            case Sum(terms=terms, least=least, most=most):
                numbers = (
                    zip(self.choices[self.columns.span(i)].tolist(), self.pool.vectors[v], strict=True)
                    for i, v in terms
                )
                weighted = [(literal, number) for here in numbers for literal, number in here if number]
                self._weighted(weighted, least, most, enforced)
            case Atom(layer=layer, mask=mask) if 2 * mask.bit_count() > self.columns.sizes[layer]:
                for literal in self._literals(layer, ((1 << int(self.columns.sizes[layer])) - 1) & ~mask):
                    self._clause({-literal - 1}, enforced)
            case Atom() | Joined() | None:
                if formula != TRUE:
                    self._clause(self._clause_of(formula), enforced)
            case node:
                assert_never(node)

    def _clause_of(self, formula: int) -> set[int]:
        """Return literals of which one is true only where the formula holds."""
        match self.pool.nodes[formula]:
            case Atom(layer=layer, mask=mask):
                others = ((1 << int(self.columns.sizes[layer])) - 1) & ~mask
                if others.bit_count() == 1:
                    return {-literal - 1 for literal in self._literals(layer, others)}
                return {*self._literals(layer, mask)}
            case Joined(parts=parts, every=False):
                return set().union(*map(self._clause_of, parts))
            case _:
                return set() if formula == FALSE else {self._helper(formula)}

    def _helper(self, formula: int) -> int:
        """Return a Boolean that implies the formula."""
        if formula not in self._helpers:
            self._helpers[formula] = self.variable(1, f"part of {self.name}")
            self._require(formula, self._helpers[formula])
        return self._helpers[formula]

    def _counted(self, part: int, least: int, limited: bool) -> list[int]:
        """Return literals whose sum is 1 where a part holds, as far as the limits of its count need it.

        A lower limit needs that they imply the part, an upper one (`limited`) that the part implies them.
        """
        node = self.pool.nodes[part]
        if isinstance(node, Atom):
            return self._literals(node.layer, node.mask)  # one column a layer: their sum is the atom's truth
        if limited and least <= 0:
            return [-self._helper(self.pool.opposite(part)) - 1]
        helper = self._helper(part)
        if limited and part not in self._equal:
            self._equal.add(part)
            self._require(self.pool.opposite(part), -helper - 1)
        return [helper]

    def _between_two(
        self, first: int, own: int, second: int, other: int, least: int, most: int, enforced: Sequence[int]
    ) -> None:
        """Constrain the sum of two layers' numbers by thresholds, a tight relaxation: x >= v implies y <= most - v."""
        values, others = self.pool.by_value(own), self.pool.by_value(other)

        def threshold(few: list[int], many: list[int]) -> None:
            """Require one of `many` where one of `few` is true; both are masks of one layer each."""
            literals = [(c, 1) for c in self._literals(first, sum(few))]
            literals += [(c, -1) for c in self._literals(second, sum(many))]
            self._weighted(literals, -1, 0, enforced)

        for value in values:
            if value + max(others) > most:
                above = [m for v, m in values.items() if v >= value]
                threshold(above, [m for v, m in others.items() if v <= most - value])
            if value < least:
                below = [m for v, m in values.items() if v <= value]
                threshold(below, [m for v, m in others.items() if v >= least - value])
