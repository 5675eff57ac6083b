"""The paper's baselines (Puzzle, appendix: Tables 10 to 12), all over the same rows as the exact search.

`max_params` and `noop_only` are exact searches with another goal or space; `greedy`, `uniform` and `random` are heuristics that
may find nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from typing import Literal, assert_never

import numpy as np

from puzzledsl.ir.nodes import Baseline, Linear, ParamsTerm, Program, WeightedTerm
from puzzledsl.ir.tables import CostTable, LayerAssignment, ScoreTable, SearchResult
from puzzledsl.search.answer import heuristic_result
from puzzledsl.search.box import Box
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.exact import Found, best_meeting_all, is_right
from puzzledsl.search.greedy import greedy
from puzzledsl.search.incumbent import feasible
from puzzledsl.search.instance import Goal, Ints, Problem
from puzzledsl.search.problem import Builder, Problems
from puzzledsl.search.rows import goal_of, without_larger
from puzzledsl.search.tables import tables_of

PARAMS = Linear(terms=(WeightedTerm(coefficient=Fraction(1), term=ParamsTerm()),))
MAX_PARAMS_GAP = 1e-3  # many models have almost as many parameters as the largest that fits
RANDOM_TRIES = 2000
BASELINE_S = 60.0
BaselineKind = Literal["greedy", "max_params", "uniform", "random", "noop_only"]


KINDS: tuple[BaselineKind, ...] = ("greedy", "max_params", "uniform", "random", "noop_only")


def solve_baselines(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> dict[BaselineKind, SearchResult]:
    """Every baseline under the requirements of one search, each verified. Raises DiagnosticError when a table is missing."""
    builder = Builder(tables_of(program, search, costs, scores))
    problems = builder.all()
    return {
        kind: solve_baseline(builder, problems, Baseline(kind=kind), Effort.of(BASELINE_S))[0]
        for kind in KINDS
    }


def solve_baseline(
    builder: Builder, problems: Problems, baseline: Baseline, effort: Effort
) -> tuple[SearchResult, Problems]:
    """A baseline's answer, and the problems it was sought in (what an explanation is about)."""
    kind, tables = baseline.kind, builder.tables
    match kind:
        case "max_params":
            problems = problems.changed(lambda p, box: params_problem(builder, p, box))
            found = best_meeting_all(tables, problems, replace(effort, gap=MAX_PARAMS_GAP))
            return heuristic_result(tables, [found], kind, found.proven), problems
        case "noop_only":
            problems = problems.changed(lambda p, _: noop_problem(p))
            found = best_meeting_all(tables, problems, effort)
            return heuristic_result(tables, [found], kind, found.proven), problems
        case "greedy":
            found = _best(problems, (_models_by_greed(problems, box) for box in problems.boxes))
        case "uniform":
            found = _best(problems, (uniform_models(builder, problems.at(box)) for box in problems.boxes))
        case "random":
            found = random_answer(problems, baseline.seed, effort)
        case _:
            assert_never(kind)
    return heuristic_result(tables, [found], kind, False), problems


def params_problem(builder: Builder, problem: Problem, box: Box) -> Problem:
    """The most parameters that fit."""
    return replace(problem, goal=goal_of(builder, PARAMS, "maximize", box), preferences=())


def noop_problem(problem: Problem) -> Problem:
    """Only the parent's sub-blocks and no-ops. A layer that may have neither keeps what it may have."""
    choices = problem.columns.choices
    plain = np.array([{c.attention, c.ffn} <= {"parent", "noop"} for c in choices], dtype=np.bool_)
    has_some = np.logical_or.reduceat(plain, problem.columns.start[:-1])
    return problem.only(plain | ~has_some[problem.columns.layer_of])


Models = Iterable[tuple[LayerAssignment, ...]]


def _models_by_greed(problems: Problems, box: Box) -> Iterator[tuple[LayerAssignment, ...]]:
    """The greedy's model at a batch; where any batch may be, at the powers of two, each where it and larger ones fit."""
    for batches in _powers(box):
        problem = problems.at(batches)
        chosen = greedy(problem if box.is_single else without_larger(problem))
        if chosen is not None:
            yield problem.choice(chosen)


def _powers(box: Box) -> Iterator[Box]:
    """A single box's batches; of several the smallest, and every power of two."""
    sides = [
        sorted({low, *(1 << power for power in range(high.bit_length()) if low <= 1 << power <= high)})
        for low, high in zip(box.low, box.high, strict=True)
    ]
    for batches in product(*sides):
        yield Box(box.scenarios, batches, batches)


def uniform_models(builder: Builder, problem: Problem) -> Models:
    """Every model with one block in every layer. A layer that may not have it takes what is closest to it in parameters
    (attention and FFN apart)."""
    sizes = _sub_block_sizes(builder, problem)
    for wanted in {(c.attention, c.ffn): i for i, c in enumerate(problem.columns.choices)}.values():
        yield problem.choice(_closest(problem, sizes, wanted))


def _sub_block_sizes(builder: Builder, problem: Problem) -> Ints:
    """Parameters of each column's attention and FFN, [columns][2]."""
    costs, layer_of = builder.tables.costs, problem.columns.layer_of.tolist()
    pairs = zip(layer_of, problem.columns.choices, strict=True)
    return np.array(
        [(costs.params_attention[i][c.attention], costs.params_ffn[i][c.ffn]) for i, c in pairs],
        dtype=np.int64,
    )


def _closest(problem: Problem, sizes: Ints, wanted: int) -> Ints:
    columns, target = problem.columns, problem.columns.choices[wanted]
    other = np.array([(c.attention != target.attention) + (c.ffn != target.ffn) for c in columns.choices])
    distance = 4 * np.abs(sizes - sizes[wanted]).sum(axis=1) + other
    return _argmin_each(problem, distance)


def _argmin_each(problem: Problem, values: Ints) -> Ints:
    start = problem.columns.start.tolist()
    return np.array([b + int(np.argmin(values[b:e])) for b, e in pairwise(start)], dtype=np.int64)


def random_answer(problems: Problems, seed: int, effort: Effort) -> Found:
    """A random model that meets every requirement: uniform draws, and where none does, the best for random scores."""
    for box in problems.boxes:
        rng, relaxed = np.random.default_rng(seed), problems.at(box)
        for _ in range(RANDOM_TRIES):
            chosen = relaxed.columns.start[:-1] + rng.integers(0, relaxed.columns.sizes)
            if not feasible(relaxed, chosen):
                continue
            found = _taken(problems, relaxed.choice(chosen), box)
            if found is not None:
                return found[1]
    values = np.random.default_rng(seed).integers(0, 2**20, len(problems.builder.columns))
    found_best = best_meeting_all(
        problems.tables, problems.changed(lambda p, _: _with_goal(p, values)), effort
    )
    return replace(found_best, bound=None, proven=False)


def _with_goal(problem: Problem, values: Ints) -> Problem:
    goal = Goal(values, Fraction(1), Fraction(0), 1, False, True)
    return replace(problem, goal=goal, preferences=())


def _best(problems: Problems, models: Iterable[Models]) -> Found:
    """The best of a heuristic's models, each at the batches that it runs at."""
    best: tuple[Fraction, Found] | None = None
    for box, of_a_box in zip(problems.boxes, models, strict=True):
        for layers in of_a_box:
            found = _taken(problems, layers, box)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
    return Found(None, {}, None, False) if best is None else best[1]


def _taken(
    problems: Problems, layers: tuple[LayerAssignment, ...], near: Box
) -> tuple[Fraction, Found] | None:
    """A model as an answer, with its goal's rank; None where it does not meet every requirement."""
    box = problems.box_of(layers, near)
    if box is None:
        return None
    problem = problems.at(box)
    chosen = problem.indices(layers)
    if chosen is None or not feasible(problem, chosen) or not is_right(problems.tables, problem, layers):
        return None
    return problem.goal.rank(problem.goal.of(chosen)), Found(layers, box.lows, None, False)
