"""CP-SAT on a problem: its model, one solve, and the canonical answer, which is the lexicographically first of all best ones.

The model has a Boolean for each column, the rows, and the formulas in normal form: a part that is required becomes clauses or a
linear constraint, a part inside a disjunction or a count has a helper Boolean. A literal is a variable v, or -v - 1 for its
negation. Layers of equal costs and scores make every permutation of an answer an answer, so they may be counted: then the model
has an integer for each choice, the number of these layers that take it, and their columns' Booleans are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, assert_never

import numpy as np

from puzzledsl.ir.tables.answers import written
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Effort, Outcome, Problem, Row
from puzzledsl.search.problem.residuals import FALSE, TRUE, Atom, Count, Joined, Sum

if TYPE_CHECKING:
    from ortools.sat.python import cp_model_helper as cp

LEAST = -(2**62)


def model_of(problem: Problem) -> cp.CpModelProto:
    """Build the CP-SAT model; variable i is column i, and has its name: `layer/attention/ffn`, with `#k` in a run."""
    return ModelWriter(problem, named=True).model


def alike_layers(problem: Problem) -> list[Ints]:
    """Return classes of layers with equal figures that no formula mentions: columns [layer][choice].

    A choice is left out if another has the same figures, or a better objective and no larger use of any row.
    """
    columns, pool, classes = problem.columns, problem.normal, dict[bytes, list[int]]()
    if columns.period:
        return []  # scores of runs link neighbouring layers
    figures = np.vstack([problem.goal.values, problem.matrix])
    for layer in range(columns.layers):
        if not any(pool.layers[formula] >> layer & 1 for formula in pool.formulas):
            classes.setdefault(figures[:, columns.span(layer)].tobytes(), []).append(layer)
    found = []
    for layers in (alike for alike in classes.values() if len(alike) > 1):
        own = figures[:, columns.span(layers[0])].T
        kept = np.sort(np.unique(own, axis=0, return_index=True)[1])
        beaten = [((own[kept] <= row).all(axis=1) & (own[kept, 0] < row[0])).any() for row in own[kept]]
        useful = kept[~np.array(beaten, dtype=np.bool_)]
        found += [np.add.outer(columns.start[layers], useful)] if len(useful) > 1 else []
    return found


class ModelWriter:
    """Writes a model: a Boolean for each column, then helpers.

    `name`: of the constraints being added; they hold if all literals in `enforced` do. `alike`: classes of layers to count.
    """

    def __init__(self, problem: Problem, alike: Sequence[Ints] = (), *, named: bool = False) -> None:
        from ortools.sat.python.cp_model_helper import CpModelProto

        self.model, self.pool, self.columns = CpModelProto(), problem.normal, problem.columns
        self.model.name = self.name = problem.name
        self._helpers: dict[int, int] = {}
        self._equal: set[int] = set()
        self.enforced: list[int] = []
        self.alike, loose = alike, np.ones(len(self.columns), dtype=np.bool_)
        for layer in range(self.columns.layers):
            counted = any(layer in self.columns.layer_of[each] for each in alike)
            loose[self.columns.span(layer)] = not counted
            self._choose(layer, named, not counted)
        self.counts = [[self.variable(len(layers)) for _ in layers[0]] for layers in alike]
        for counts, layers in zip(self.counts, alike, strict=True):
            self._linear(counts, [1] * len(counts), len(layers), len(layers))
        self.columns_of = np.concatenate([loose.nonzero()[0], *(layers[0] for layers in alike)])
        self.variables = [*loose.nonzero()[0].tolist(), *chain.from_iterable(self.counts)]
        self._limit(problem)
        runs = [(number, "run") for number in self.pool.runs]
        formulas = zip(self.pool.formulas, (formula.name for formula in problem.formulas), strict=True)
        for number, self.name in [*runs, *formulas]:
            self._require(number)

    def _choose(self, layer: int, named: bool, loose: bool) -> None:
        """Add the Booleans of a layer's columns: exactly one is true, or none in a layer that is counted."""
        here = self.columns.span(layer)
        names = [""] * (here.stop - here.start)
        if named:
            runs = (f"#{k}" if k else "" for k in self.columns.position[here].tolist())
            pairs = zip(self.columns.of_layer(layer), runs, strict=True)
            names = [f"{written(layer, choice)}{run}" for choice, run in pairs]
        literals = [self.variable(int(loose), name) for name in names]
        self.name = f"layer {layer}"
        if loose:
            self._constraint().exactly_one.literals.extend(literals)

    def _limit(self, problem: Problem) -> None:
        """Add the rows and the objective, unscaled: CP-SAT's absolute gap of 1e-4 must stay below a step of integers."""
        for row in problem.rows:
            self.name = row.name
            self._linear(*self._sum(row.coefficients), LEAST, row.limit)
        goal = problem.goal
        self.aim(goal.values)
        self.model.objective.offset = float(goal.sign * goal.constant / goal.unit)

    def _sum(self, values: Ints) -> tuple[list[int], list[int]]:
        """Return the variables of a sum of the columns' values, and their coefficients."""
        own = values[self.columns_of]
        used = own.nonzero()[0].tolist()
        return [self.variables[i] for i in used], own[used].tolist()

    def aim(self, values: Ints) -> None:
        """Make the sum of the columns' `values` what the model minimises."""
        self.model.clear_objective()
        variables, coefficients = self._sum(values)
        self.model.objective.vars.extend(variables)
        self.model.objective.coeffs.extend(coefficients)

    def read(self, solution: Sequence[int]) -> Ints:
        """Return the chosen columns, ascending. Of layers that are counted, earlier ones take earlier choices."""
        parts = [np.flatnonzero([*solution[: len(self.columns)]])]
        for counts, layers in zip(self.counts, self.alike, strict=True):
            choices = np.repeat(np.arange(len(counts)), [solution[count] for count in counts])
            parts.append(layers[np.arange(len(layers)), choices])
        return np.sort(np.concatenate(parts))

    def variable(self, most: int, name: str = "") -> int:
        """Add an integer variable from 0 to `most` and return its index."""
        variable = self.model.variables.add()
        if name:
            variable.name = name
        variable.domain.extend((0, most))
        return len(self.model.variables) - 1

    def _constraint(self) -> cp.ConstraintProto:
        constraint: cp.ConstraintProto = self.model.constraints.add()
        constraint.name = self.name
        return constraint

    def _linear(self, variables: Sequence[int], coefficients: Sequence[int], least: int, most: int) -> None:
        """Require a sum of coefficients times variables from `least` to `most`, if all of `enforced` hold."""
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
        here = range(*self.columns.start[layer : layer + 2].tolist())
        return [column for bit, column in enumerate(here) if mask >> bit & 1]

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
                vectors = ((int(self.columns.start[i]), self.pool.vectors[v]) for i, v in terms)
                pairs = (pair for first, vector in vectors for pair in enumerate(vector, first))
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
        """Return literals such that the formula holds if any of them is true."""
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
        """Return literals of sum 0 or 1: 1 if the part holds (`limited`), 0 if it does not (`least` > 0 or not `limited`)."""
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
        """Constrain the sum of two layers' numbers by thresholds (a tight linear relaxation): x >= v implies y <= most - v."""
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


LARGEST_GOAL = 2**62
WORK = 30.0  # CP-SAT's deterministic seconds for each solve of `canonical_answer`
LARGEST_PLACE = 2**50  # limit on the number that encodes columns of several layers in the canonical order


def run_cpsat(
    problem: Problem,
    effort: Effort,
    hint: Ints | None = None,
    at_least: int | None = None,
    at_most: int | None = None,
) -> Outcome:
    """Solve a problem. `hint`: columns of an answer to start from, one for each layer.

    `at_least`: a proven lower bound on the sum. `at_most`: consider only answers up to this sum. With one worker the result is
    deterministic for a seed. No answer has a sum above LARGEST_GOAL, so a larger `at_least` proves that there is none.
    """
    if effort.left_s <= 0:
        return Outcome()
    least = -LARGEST_GOAL if at_least is None else max(at_least, -LARGEST_GOAL)
    most = LARGEST_GOAL if at_most is None else min(at_most, LARGEST_GOAL)
    if least > most:
        return Outcome(proven=True)
    writer = ModelWriter(problem, alike_layers(problem))
    if at_least is not None or at_most is not None:
        writer.model.objective.domain.extend([least, most])
    return solve_written(writer, problem, effort, None if writer.alike else hint)


def solve_written(writer: ModelWriter, problem: Problem, effort: Effort, hint: Ints | None) -> Outcome:
    """Solve a problem's model, which may have more limits than the problem. `hint`: chosen columns to start from, or None."""
    from ortools.sat.python.cp_model_helper import CpSolverStatus, SolveWrapper

    if hint is not None:
        hinted = np.isin(np.arange(len(problem.columns)), hint).astype(np.int64)
        writer.model.clear_solution_hint()
        writer.model.solution_hint.vars.extend(range(len(hinted)))
        writer.model.solution_hint.values.extend(hinted.tolist())
    solver = SolveWrapper()
    solver.set_parameters(parameters_of(effort))
    response = solve_interruptibly(solver, writer.model)
    if response.status == CpSolverStatus.INFEASIBLE:
        return Outcome(proven=True)
    if response.status not in (CpSolverStatus.OPTIMAL, CpSolverStatus.FEASIBLE):
        return Outcome()
    bound = int(response.inner_objective_lower_bound) if problem.goal.values.any() else 0
    chosen, proven = writer.read([*response.solution]), response.status == CpSolverStatus.OPTIMAL
    return Outcome(chosen, problem.goal.of(chosen), bound, proven)


def solve_interruptibly(solver: cp.SolveWrapper, model: cp.CpModelProto) -> cp.CpSolverResponse:
    """Solve in a thread, so that Ctrl-C reaches Python immediately; CP-SAT is then stopped before the exception propagates."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        solved = pool.submit(solver.solve, model)
        try:
            response: cp.CpSolverResponse = solved.result()
            return response
        except BaseException:
            solver.stop_search()
            raise


def parameters_of(effort: Effort) -> cp.SatParameters:
    """Return CP-SAT's parameters for an effort."""
    from ortools.sat.python.cp_model_helper import SatParameters

    parameters = SatParameters()
    parameters.num_workers = effort.workers
    parameters.random_seed = effort.seed
    parameters.max_time_in_seconds = effort.left_s
    parameters.relative_gap_limit = effort.gap
    parameters.absolute_gap_limit = 0.0
    # OR-Tools' own handler would leave the default handler in place, so the next Ctrl-C would kill the process
    parameters.catch_sigint_signal = False
    if effort.work is not None:
        parameters.max_deterministic_time = effort.work
    return parameters


def canonical_answer(problem: Problem, bound: Bound, chosen: Ints, effort: Effort) -> Ints:
    """Return the best answer that comes first in the order of the space, from any best one, as far as time allows."""
    value, effort = problem.goal.of(chosen), replace(effort, gap=0.0, work=WORK)
    keep = bound.within(value)
    origin, core = keep.nonzero()[0], problem.only(keep)
    others = core.with_rows(core.apart_from(problem.choice(chosen), 1))
    if len(core.columns) == core.columns.layers:
        return chosen
    if not core.is_coarse and run_cpsat(others, effort, at_least=value, at_most=value).infeasible:
        return chosen
    core = core.with_rows(Row("goal", core.goal.values, value))
    chosen, words = np.searchsorted(origin, chosen), core.columns.places(LARGEST_PLACE)
    writer = ModelWriter(core)
    for word in words:
        writer.aim(word)
        answer = solve_written(writer, core, effort, chosen)
        if answer.chosen is None or not answer.proven:
            break
        chosen = answer.chosen
        for column in np.flatnonzero(word != word[chosen][core.columns.layer_of]).tolist():
            writer.model.variables[column].domain[1] = 0
    return origin[chosen]
