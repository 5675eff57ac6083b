"""CP-SAT model of a problem: a Boolean for each column, its rows, and its formulas in normal form.

A part of a formula that is required becomes clauses, or a linear constraint of the columns' own Booleans. A part inside a
disjunction or a count has a helper Boolean: one that implies it, or, for the upper limit of a count, one that it implies.
A literal is a variable v, or -v - 1 for its negation.

If layers have equal costs and scores (for example, when parameters are the objective), every permutation of an answer is an
answer, and CP-SAT proves nothing with a Boolean for each column. So interchangeable layers form a class, and the model has an
integer for each choice: the number of layers of the class that take it. Layers linked by formulas are one unit, whose choices are
tuples of columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import numpy as np

from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.residuals import FALSE, TRUE, Atom, Count, Joined, Sum, places_of

if TYPE_CHECKING:
    from ortools.sat.python.cp_model_helper import ConstraintProto, CpModelProto

LEAST = -(2**62)
MOST_TUPLES = 4096  # of columns of linked layers that are listed


def model_of(problem: Problem, *, named: bool = True) -> CpModelProto:
    """Build the CP-SAT model of a problem. Variable i is column i; `named` gives it a readable name.

    Names are `layer/attention/ffn`, with `#k` appended for the k-th layer of a dropped run.
    """
    return ModelWriter(problem, named=named).model


class ModelWriter:
    """Writes the model of a problem, with symmetric layers aggregated, and reads its solutions.

    Its variables are a Boolean for each column of the layers in no class, a count for each choice of each class, then helpers.
    `choices[column]`: its Boolean, or -1. `name`: that of the next constraints. `enforced`: literals under
    which they hold.
    """

    def __init__(self, problem: Problem, symmetry: Sequence[Alike] = (), *, named: bool = False) -> None:
        from ortools.sat.python.cp_model_helper import CpModelProto

        self.model, self.pool, self.columns, self.symmetry = (
            CpModelProto(),
            problem.normal,
            problem.columns,
            symmetry,
        )
        self.model.name = self.name = problem.name
        self._helpers: dict[int, int] = {}
        self._equal: set[int] = set()
        self.enforced: list[int] = []
        counted = {i for a in symmetry for i in self.columns.layer_of[a.tuples[:, 0]].ravel().tolist()}
        self.choices: Ints = np.full(len(self.columns), -1, dtype=np.int64)
        for layer in (i for i in range(self.columns.layers) if i not in counted):
            self._choose(layer, named)
        self._limit(problem)
        runs = [(number, "run") for number in self.pool.runs]
        formulas = zip(self.pool.formulas, (formula.name for formula in problem.formulas), strict=True)
        for number, self.name in [*runs, *formulas]:
            if not any(self.pool.layers[number] >> layer & 1 for layer in counted):
                self._require(number)

    def _choose(self, layer: int, named: bool) -> None:
        """Add the Booleans of a layer's columns, of which exactly one is true."""
        here = self.columns.span(layer)
        names = [""] * (here.stop - here.start)
        if named:
            runs = (f"#{k}" if k else "" for k in self.columns.position[here].tolist())
            pairs = zip(self.columns.of_layer(layer), runs, strict=True)
            names = [f"{layer}/{choice.attention}/{choice.ffn}{run}" for choice, run in pairs]
        self.choices[here] = [self.variable(1, name) for name in names]
        self.name = f"layer {layer}"
        self._constraint().exactly_one.literals.extend(self.choices[here].tolist())

    def _limit(self, problem: Problem) -> None:
        """Add the counts, the rows and the objective.

        The objective has no scaling factor: a small one would make CP-SAT's absolute gap of 1e-4 larger than a step of integers.
        """
        loose = (self.choices >= 0).nonzero()[0]
        variables = self.choices[loose].tolist()
        figures = [np.vstack([problem.goal.values, problem.matrix])[:, loose]]
        for alike in self.symmetry:
            counts = [self.variable(len(alike.tuples)) for _ in alike.figures]
            self._linear(counts, [1] * len(counts), len(alike.tuples), len(alike.tuples))
            variables += counts
            figures.append(alike.figures.T)
        goal, *rows = np.hstack(figures)
        for row, coefficients in zip(problem.rows, rows, strict=True):
            used, self.name = coefficients.nonzero()[0].tolist(), row.name
            self._linear([variables[i] for i in used], coefficients[used].tolist(), LEAST, row.limit)
        used = goal.nonzero()[0].tolist()
        self.model.objective.vars.extend([variables[i] for i in used])
        self.model.objective.coeffs.extend(goal[used].tolist())
        self.model.objective.offset = float(problem.goal.sign * problem.goal.constant / problem.goal.unit)

    def read(self, values: list[int]) -> Ints:
        """Return the chosen columns, ascending, from the variables' values in a solution."""
        loose = (self.choices >= 0).nonzero()[0]
        parts, place = [loose[np.array(values[: len(loose)], dtype=np.bool_)]], len(loose)
        for alike in self.symmetry:
            parts.append(alike.chosen(values[place : place + len(alike.figures)]))
            place += len(alike.figures)
        return np.sort(np.concatenate(parts))

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

    def _linear(self, variables: Sequence[int], coefficients: Sequence[int], least: int, most: int) -> None:
        """Require a sum from `least` to `most`."""
        constraint = self._constraint()
        constraint.linear.vars.extend(variables)
        constraint.linear.coeffs.extend(coefficients)
        constraint.linear.domain.extend([least, most])
        constraint.enforcement_literal.extend(self.enforced)

    def _clause(self, literals: set[int]) -> None:
        enforced = {-literal - 1 for literal in self.enforced}
        self._constraint().bool_or.literals.extend(sorted(literals | enforced))

    def _weighted(self, weighted: Iterable[tuple[int, int]], least: int, most: int) -> None:
        """Require a sum of weights of true literals from `least` to `most`."""
        constant, coefficients = 0, dict[int, int]()
        for literal, weight in weighted:  # a negative literal is 1 minus its variable
            variable, sign = (literal, 1) if literal >= 0 else (-literal - 1, -1)
            coefficients[variable] = coefficients.get(variable, 0) + sign * weight
            constant += 0 if literal >= 0 else weight
        self._linear([*coefficients], [*coefficients.values()], least - constant, most - constant)

    def _literals(self, layer: int, mask: int) -> list[int]:
        here = self.choices[self.columns.span(layer)].tolist()
        return [literal for bit, literal in enumerate(here) if mask >> bit & 1]

    # ---------------------------------------------------------------- formulas

    def _require(self, formula: int) -> None:
        """Require a formula of the pool."""
        match self.pool.nodes[formula]:
            case Joined(parts=parts, every=True):
                for part in parts:
                    self._require(part)
            case Count(parts=parts, least=least, most=most):
                counted = (self._counted(part, least, most < len(parts)) for part in parts)
                self._weighted([(literal, 1) for here in counted for literal in here], least, most)
            case Sum(terms=[(first, own), (second, other)], least=least, most=most):
                self._between_two(first, own, second, other, least, most)
            case Sum(terms=terms, least=least, most=most):
                vectors = [
                    (self.choices[self.columns.span(i)].tolist(), self.pool.vectors[v]) for i, v in terms
                ]
                pairs = (pair for literals, vector in vectors for pair in zip(literals, vector, strict=True))
                self._weighted([(literal, number) for literal, number in pairs if number], least, most)
            case Atom(layer=layer, mask=mask) if 2 * mask.bit_count() > self.columns.sizes[layer]:
                for literal in self._literals(layer, ~mask):
                    self._clause({-literal - 1})
            case Atom() | Joined() | None:
                if formula != TRUE:
                    self._clause(self._clause_of(formula))
            case node:
                assert_never(node)

    def _clause_of(self, formula: int) -> set[int]:
        """Return literals of which one is true only where the formula holds."""
        match self.pool.nodes[formula]:
            case Atom(layer=layer, mask=mask):
                others = self._literals(layer, ~mask)
                return {-others[0] - 1} if len(others) == 1 else {*self._literals(layer, mask)}
            case Joined(parts=parts, every=False):
                return set().union(*map(self._clause_of, parts))
            case _:
                return set() if formula == FALSE else {self._helper(formula)}

    def _helper(self, formula: int) -> int:
        """Return a Boolean that implies the formula."""
        if formula not in self._helpers:
            self._helpers[formula] = self.variable(1, f"part of {self.name}")
            self._require_under(self._helpers[formula], formula)
        return self._helpers[formula]

    def _require_under(self, literal: int, formula: int) -> None:
        before, self.enforced = self.enforced, [literal]
        self._require(formula)
        self.enforced = before

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
            self._require_under(-helper - 1, self.pool.opposite(part))
        return [helper]

    def _between_two(self, first: int, own: int, second: int, other: int, least: int, most: int) -> None:
        """Constrain the sum of two layers' numbers by thresholds, a tight relaxation: x >= v implies y <= most - v."""
        values, others = self.pool.by_value(own), self.pool.by_value(other)

        def threshold(few: list[int], many: list[int]) -> None:
            """Require one of `many` where one of `few` is true; both are masks of one layer each."""
            literals = [(c, 1) for c in self._literals(first, sum(few))]
            literals += [(c, -1) for c in self._literals(second, sum(many))]
            self._weighted(literals, -1, 0)

        for value in values:
            if value + max(others) > most:
                above = [m for v, m in values.items() if v >= value]
                threshold(above, [m for v, m in others.items() if v <= most - value])
            if value < least:
                below = [m for v, m in values.items() if v <= value]
                threshold(below, [m for v, m in others.items() if v >= least - value])


# ---------------------------------------------------------------- symmetry


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """Units with equal figures: layers linked by formulas, most often a single one.

    `tuples[unit][i]`: columns, one for each layer, of the unit's choice i. `figures[i]`: its objective, then its row values.
    """

    tuples: Ints
    figures: Ints

    def chosen(self, counts: Sequence[int]) -> Ints:
        """Return the columns of the class if `counts[i]` units take choice i. Earlier units take earlier choices."""
        return self.tuples[np.arange(len(self.tuples)), np.repeat(np.arange(len(counts)), counts)].ravel()


def symmetry_of(problem: Problem) -> tuple[Alike, ...]:
    """Return the classes of interchangeable layers of a problem, with the choices that may be in a best answer."""
    if problem.columns.period:
        return ()  # scores of runs link neighbouring layers
    classes: dict[tuple[object, ...], tuple[Ints, list[Ints]]] = {}
    for layers, formulas in _linked(problem):
        tuples = _tuples(problem, layers, formulas)
        if len(tuples):
            goal, rows = problem.goal.values[tuples], problem.matrix[:, tuples]
            figures = np.vstack([goal.sum(axis=1), rows.sum(axis=2)]).T
            own = figures.tobytes(), tuples.shape, (tuples - tuples.min(axis=0)).tobytes()
            classes.setdefault(own, (figures, []))[1].append(tuples)
    return tuple(
        Alike(np.stack(units)[:, useful], figures[useful])
        for figures, units in classes.values()
        if len(units) > 1 and len(useful := _useful(figures))
    )


def _linked(problem: Problem) -> list[tuple[list[int], list[int]]]:
    """Return the connected components of layers that share formulas, each with the numbers of its formulas in the pool."""
    pool, group = problem.normal, list(range(problem.columns.layers))
    linked = [(formula, places_of(pool.layers[formula])) for formula in pool.formulas]
    for _, layers in linked:
        joined = {group[layer] for layer in layers}
        group = [min(joined) if own in joined else own for own in group]
    found: dict[int, tuple[list[int], list[int]]] = {own: ([], []) for own in group}
    for layer, own in enumerate(group):
        found[own][0].append(layer)
    for formula, layers in linked:
        if layers:
            found[group[layers[0]]][1].append(formula)
    return [*found.values()]


def _tuples(problem: Problem, layers: list[int], formulas: list[int]) -> Ints:
    """Return the columns of linked layers that satisfy the formulas, [choice][layer], in order; none if they are too many."""
    start = problem.columns.start
    spans = [np.arange(start[layer], start[layer + 1]) for layer in layers]
    if math.prod(map(len, spans)) > MOST_TUPLES:
        return np.zeros((0, len(layers)), dtype=np.int64)
    tuples = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, len(layers))
    if formulas:
        chosen = np.repeat(start[None, :-1], len(tuples), axis=0)
        chosen[:, layers] = tuples
        tuples = tuples[np.logical_and.reduce([problem.normal.truth(f, chosen) for f in formulas])]
    return tuples


def _useful(figures: Ints) -> Ints:
    """Return the choices without duplicates and without those that are dominated: by a better objective with no more use."""
    kept = np.sort(np.unique(figures, axis=0, return_index=True)[1])
    distinct = figures[kept]
    beaten = [((distinct <= row).all(axis=1) & (distinct[:, 0] < row[0])).any() for row in distinct]
    return np.asarray(kept[~np.array(beaten, dtype=np.bool_)], dtype=np.int64)
