"""The paper's baselines (Puzzle, appendix: Tables 10 to 12), all over the same rows as the exact search.

`max_params` and `noop_only` are exact searches with another goal or space; `greedy`, `uniform` and `random` are heuristics that
may find nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal, assert_never

import numpy as np

from puzzledsl.ir.nodes import Baseline, Linear, ParamsTerm, Program, WeightedTerm
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.search.answer import heuristic_result
from puzzledsl.search.core import minimise
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.exact import Found, best_meeting_all
from puzzledsl.search.greedy import greedy
from puzzledsl.search.incumbent import feasible
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.metrics import Child
from puzzledsl.search.problem import Builder
from puzzledsl.search.rows import goal_of
from puzzledsl.search.tables import Tables, tables_of

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
    builder: Builder, problems: Sequence[Problem], baseline: Baseline, effort: Effort
) -> tuple[SearchResult, list[Problem]]:
    """A baseline's answer, and the problems it was sought in (what an explanation is about)."""
    kind, tables = baseline.kind, builder.tables
    match kind:
        case "max_params":
            problems = [params_problem(builder, p) for p in problems]
            found = best_meeting_all(tables, problems, replace(effort, gap=MAX_PARAMS_GAP))
            return heuristic_result(tables, [found], kind, found.proven), list(problems)
        case "noop_only":
            problems = [noop_problem(p) for p in problems]
            found = best_meeting_all(tables, problems, effort)
            return heuristic_result(tables, [found], kind, found.proven), list(problems)
        case "greedy":
            found = _best(tables, problems, greedy)
        case "uniform":
            found = _best(tables, problems, lambda p: best_uniform(builder, p))
        case "random":
            found = _first(tables, problems, lambda p: random_answer(p, baseline.seed, effort))
        case _:
            assert_never(kind)
    return heuristic_result(tables, [found], kind, False), list(problems)


def params_problem(builder: Builder, problem: Problem) -> Problem:
    """The most parameters that fit."""
    return replace(problem, goal=goal_of(builder, PARAMS, "maximize", problem.batches), preferences=())


def noop_problem(problem: Problem) -> Problem:
    """Only the parent's sub-blocks and no-ops. A layer that may have neither keeps what it may have."""
    choices = problem.columns.choices
    plain = np.array([{c.attention, c.ffn} <= {"parent", "noop"} for c in choices], dtype=np.bool_)
    has_some = np.logical_or.reduceat(plain, problem.columns.start[:-1])
    return problem.only(plain | ~has_some[problem.columns.layer_of])


def best_uniform(builder: Builder, problem: Problem) -> Ints | None:
    """The best model with one block in every layer. A layer that may not have it takes what is closest to it in parameters
    (attention and FFN apart)."""
    sizes = _sub_block_sizes(builder, problem)
    best: tuple[int, tuple[int, ...]] | None = None
    for wanted in {(c.attention, c.ffn): i for i, c in enumerate(problem.columns.choices)}.values():
        chosen = _closest(problem, sizes, wanted)
        if feasible(problem, chosen):
            key = (problem.goal.of(chosen), tuple(chosen.tolist()))
            best = key if best is None or key < best else best
    return None if best is None else np.array(best[1], dtype=np.int64)


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


def random_answer(problem: Problem, seed: int, effort: Effort) -> Ints | None:
    """A random model that meets every requirement: uniform draws, and where none does, the best for random scores."""
    rng = np.random.default_rng(seed)
    sizes = np.diff(problem.columns.start)
    for _ in range(RANDOM_TRIES):
        chosen = problem.columns.start[:-1] + rng.integers(0, sizes)
        if feasible(problem, chosen):
            return np.asarray(chosen, dtype=np.int64)
    values = rng.integers(0, 2**20, len(problem.columns.choices))
    goal = replace(problem.goal, values=values, unit=Fraction(1), constant=Fraction(0), sign=1, tokens=None)
    return minimise(replace(problem, goal=goal), effort, canonical=False).chosen


Heuristic = Callable[[Problem], Ints | None]


def _best(tables: Tables, problems: Sequence[Problem], heuristic: Heuristic) -> Found:
    """The best of a heuristic's answers over all batches."""
    found = [
        (p, chosen) for p in problems if (chosen := heuristic(p)) is not None and _meets(tables, p, chosen)
    ]
    if not found:
        return Found(None, {}, None, False)
    problem, chosen = min(found, key=lambda f: f[0].goal.rank(f[0].goal.of(f[1])))
    return Found(problem.choice(chosen), dict(problem.batches), None, False)


def _first(tables: Tables, problems: Sequence[Problem], heuristic: Heuristic) -> Found:
    """A heuristic's answer at the first batches where it has one."""
    for problem in problems:
        chosen = heuristic(problem)
        if chosen is not None and _meets(tables, problem, chosen):
            return Found(problem.choice(chosen), dict(problem.batches), None, False)
    return Found(None, {}, None, False)


def _meets(tables: Tables, problem: Problem, chosen: Ints) -> bool:
    """Whether the requirements hold exactly, not only in rounded integers."""
    if all(row.exact for row in problem.rows):
        return True
    child = Child(tables, problem.choice(chosen), problem.batches)
    return all(child.meets(r) for r in tables.search.requirements)
