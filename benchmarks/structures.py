"""Synthetic searches with structural requirements (structure_kinds.py) beside one or two budgets that bind.

A space of the synthetic search's alternatives (synthetic.py), a structure, and budgets of a child that meets it: CP-SAT's answer
at a throughput of 1.6 to 2 times the parent's and at random prices of all budgets. The budgets are 0.05 to 0.4 % looser than that
child, so every search has an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems import build_problem
from benchmarks.structure_kinds import KINDS, Count, Menu, Rng
from benchmarks.synthetic import HERE, Budget, Inputs, budgets, requirement, single, synthetic, with_search
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.ir.nodes import (
    CountTerm,
    LayerChoice,
    LinearRequirement,
    Logic,
    LogicRequirement,
    Requirement,
    Shape,
)
from puzzledsl.ir.tables import RunScore
from puzzledsl.search.cpsat.solve import model_of, parameters_of, solve_interruptibly
from puzzledsl.search.effort import Effort
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import tables_of

REFERENCE_WORK = 4.0  # CP-SAT's deterministic seconds for the child that budgets are taken from
REFERENCE_S = 300.0
REFERENCE_GAP = 0.02
GOAL_SIZE = 10**9  # of the reference's goal, in integers
SLOWER = 0.85  # times the throughput to try next
SLOWEST = 0.5
RUN_SCORES = "run_scores"  # no formula: runs of dropped layers have scores
ALL_KINDS = (*KINDS, RUN_SCORES)
LONGEST, POWER, POWER_SPREAD, NOISE = 8, -0.1, 0.25, 0.02  # of runs that are scored
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the synthetic search's alternatives a layer has: places in its lists of 6 attentions and 9 FFNs."""

    attention: tuple[int, ...]
    ffn: tuple[int, ...]


# attention: parent, 4, 2 and 1 KV heads, linear, no-op; FFN: parent, 87, 75, 50, 25, 20 and 10 % of the width, linear, no-op
CHOICES = (
    Choice((0, 2, 4, 5), (0, 3, 4, 6, 8)),
    Choice((0, 1, 3, 4, 5), (0, 2, 3, 5, 8)),
    Choice((0, 1, 4, 5), (0, 3, 7, 8)),
)
SMALL = Choice((0, 2, 5), (0, 3, 8))  # 9 pairs a layer: all models of up to five layers can be tried
WIDE = Choice(tuple(range(6)), tuple(range(9)))


def structured(
    kind: str, layers: int, seed: int, requirements: int | None = None, choice: Choice | None = None
) -> Inputs:
    """A search `best` of one kind, its costs and its scores. One or two budgets unless `requirements` says how many."""
    return mixed((kind,), layers, seed, requirements, choice)


def mixed(
    kinds: Sequence[str],
    layers: int,
    seed: int,
    requirements: int | None = None,
    choice: Choice | None = None,
) -> Inputs:
    """A search `best` with the structures of all `kinds`, scores of runs among them or not. Raises RuntimeError where they
    contradict each other."""
    rng = np.random.default_rng([seed, layers, *map(ALL_KINDS.index, kinds)])
    inputs = narrowed(synthetic(layers, 6, 9, seed, requirements=0), choice or CHOICES[seed % len(CHOICES)])
    if RUN_SCORES in kinds:
        inputs = with_run_scores(inputs, rng)
    menu = menu_of(inputs)
    parts = [part for kind in kinds if kind != RUN_SCORES for part in KINDS[kind](menu, rng)]
    structure = tuple(requirement_of(part, layers) for part in parts)
    count = 1 + seed % 2 if requirements is None else requirements
    wanted = budgets(layers)[:count] if count != 1 else budgets(layers)[1:2]
    return budgeted(inputs, structure, wanted, float(rng.uniform(1.6, 2.0)), rng)


def with_run_scores(inputs: Inputs, rng: Rng) -> Inputs:
    """The same tables with scores of all runs of 2 to 8 dropped layers: the sum of their layers times a power of the run's
    length, which varies slowly with depth, and a little noise. Some runs are worth more than their layers, others less."""
    program, costs, scores = inputs
    alone = np.array([layer["noop/noop"] for layer in scores["kl"].pairs])
    power = POWER + POWER_SPREAD * np.sin(
        rng.uniform(0, 2 * np.pi) + np.arange(len(alone)) * rng.uniform(0.2, 0.5)
    )
    runs = []
    for first in range(len(alone)):
        for length in range(2, min(LONGEST, len(alone) - first) + 1):
            together = (
                alone[first : first + length].sum() * length ** power[first] * (1 + NOISE * rng.normal())
            )
            runs.append(RunScore(first=first, length=length, value=round(max(float(together), 0.0), 6)))
    return program, costs, {"kl": scores["kl"].model_copy(update={"runs": tuple(runs)})}


def requirement_of(part: Logic | Count, layers: int) -> Requirement:
    """A part of a structure as the search has it."""
    if not isinstance(part, Count):
        return LogicRequirement(formula=part, where=HERE)
    term = CountTerm(sub_block=part.sub_block, alternatives=part.names, layers=tuple(range(layers)))
    bound = Fraction(part.exactly)
    return LinearRequirement(left=single(term), op="==", bound=bound, where=HERE, bound_where=HERE)


def narrowed(inputs: Inputs, choice: Choice) -> Inputs:
    """The same tables with fewer alternatives a layer."""
    program, costs, scores = inputs
    space = program.spaces["wide"]
    layers = tuple(
        LayerChoice(
            attention=tuple(here.attention[i] for i in choice.attention),
            ffn=tuple(here.ffn[i] for i in choice.ffn),
        )
        for here in space.layers
    )
    narrow = space.model_copy(update={"layers": layers})
    return program.model_copy(update={"spaces": {"wide": narrow}}), costs, scores


def menu_of(inputs: Inputs) -> Menu:
    """The alternatives of every layer."""
    program = inputs[0]
    layers, shape = program.spaces["wide"].layers, program.parents["llama"].shape
    return Menu(
        len(layers),
        {a.name: _heads(a, shape) for a in layers[0].attention},
        {f.name: _width(f, shape) for f in layers[0].ffn},
    )


def _heads(alternative: AttentionAlternative, shape: Shape) -> int:
    return alternative.cached_heads(shape)


def _width(alternative: FfnAlternative, shape: Shape) -> int:
    return alternative.channels(shape)


def budgeted(
    inputs: Inputs, structure: Sequence[Requirement], wanted: Sequence[Budget], speedup: float, rng: Rng
) -> Inputs:
    """The search with this structure and with budgets that a child of `speedup` times the parent's throughput just meets.

    A slower child where the structure allows none that fast. Raises RuntimeError where no child meets the structure.
    """
    weights = rng.uniform(0.1, 0.5, len(wanted))
    child = None
    while child is None:
        at_least = tuple(requirement(b, _first_ratio(b, speedup)) for b in wanted)
        child = _reference(with_search(inputs, requirements=(*at_least, *structure)), speedup, weights)
        if child is None and speedup < SLOWEST:
            raise RuntimeError("no child meets the structure")
        speedup *= SLOWER
    limits = []
    for budget in wanted:
        ratio = child.linear(single(budget.term)) / child.parent().linear(single(budget.term))
        loosened = 1 + rng.uniform(0.0005, 0.004)
        exact = float(ratio) * (loosened if budget.op == "<=" else 1 / loosened)
        limits.append(requirement(budget, Fraction(f"{exact:.7f}")))
    return with_search(inputs, requirements=(*limits, *structure))


def _first_ratio(budget: Budget, speedup: float) -> Fraction:
    """The parent's own figure where less is better, `speedup` times that of a throughput."""
    return Fraction(f"{speedup:.3f}") if budget.op == ">=" else Fraction(1)


def _reference(inputs: Inputs, speedup: float, weights: Floats) -> Child | None:
    """A child that meets all requirements and is cheap at a price of each budget (the first rows); None where there is none."""
    program, costs, scores = inputs
    problem = build_problem(program, "best", costs, scores)
    scored = problem.goal.values / max(float(np.abs(problem.goal.values).max()), 1.0)
    priced = (
        weights @ np.array([_use(problem, row) for row in problem.matrix[: len(weights)]]) / weights.sum()
    )
    goal = scored + float(weights.max()) * _price(problem, scored, priced, 1 / speedup) * priced
    whole = np.round(goal * (GOAL_SIZE / max(float(np.abs(goal).max()), 1e-300))).astype(np.int64)
    chosen = _solved(replace(problem, goal=replace(problem.goal, values=whole)))
    if chosen is None:
        return None
    return Child(tables_of(program, "best", costs, scores), problem.choice(chosen), problem.batches)


def _use(problem: Problem, coefficients: Ints) -> Floats:
    """A row's coefficients, in shares of what the parent takes."""
    parent = coefficients[problem.columns.start[:-1]].sum()
    return np.asarray(coefficients / max(float(parent), 1.0), dtype=np.float64)


def _price(problem: Problem, scored: Floats, priced: Floats, wanted: float) -> float:
    """The price at which the cheapest columns, whatever the formulas, take `wanted` of what the parent takes."""
    start = problem.columns.start.tolist()
    low, high = 1e-6, 1e9
    for _ in range(60):
        price = float(np.sqrt(low * high))
        goal = scored + price * priced
        chosen = [b + int(np.argmin(goal[b:e])) for b, e in pairwise(start)]
        low, high = (price, high) if priced[chosen].sum() > wanted else (low, price)
    return high


def _solved(problem: Problem) -> Ints | None:
    """CP-SAT's answer, almost the best one, the same on every machine; None where there is none."""
    from ortools.sat.python.cp_model_helper import CpSolverStatus, SolveWrapper

    effort = replace(Effort.of(REFERENCE_S, gap=REFERENCE_GAP), work=REFERENCE_WORK)
    solver = SolveWrapper()
    solver.set_parameters(parameters_of(effort))
    response = solve_interruptibly(solver, model_of(problem, named=False))
    if response.status not in (CpSolverStatus.OPTIMAL, CpSolverStatus.FEASIBLE):
        return None
    taken = np.array(list(response.solution)[: len(problem.columns)], dtype=np.int64)
    return taken.nonzero()[0].astype(np.int64)
