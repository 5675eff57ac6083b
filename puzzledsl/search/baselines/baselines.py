"""Baselines under the same constraints as the exact search: the paper's (Puzzle, appendix: Tables 10 to 12) and other methods'.

`max_params` and `noop_only` are exact searches with another objective or space; the others are heuristics that may find nothing.
`uniform_width` prunes every layer to one width (Minitron, arXiv 2407.14679). Those that drop whole layers are in `drops.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import assert_never

import numpy as np

from puzzledsl.ir.nodes import (
    BASELINES,
    Baseline,
    BaselineKind,
    Linear,
    ParamsTerm,
    Program,
    WeightedTerm,
)
from puzzledsl.ir.references import BY_INFLUENCE
from puzzledsl.ir.tables import CostTable, LayerAssignment, ScoreTable, SearchResult
from puzzledsl.search.answer import heuristic_result
from puzzledsl.search.baselines.candidates import Model, best_of_models, closest, greedy, taken
from puzzledsl.search.baselines.drops import by_angular_distance, by_block_influence
from puzzledsl.search.batches.exact import Found, best_meeting_all
from puzzledsl.search.effort import Effort
from puzzledsl.search.needs import influence_of
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Columns, Ints
from puzzledsl.search.problem.instance import Goal, Problem
from puzzledsl.search.problem.problem import Builder, Problems
from puzzledsl.search.problem.rows import goal_of, without_larger
from puzzledsl.search.tables import tables_of

PARAMS = Linear(terms=(WeightedTerm(coefficient=Fraction(1), term=ParamsTerm()),))
MAX_PARAMS_GAP = 1e-3  # many models have almost as many parameters as the largest that fits
RANDOM_TRIES = 2000
BASELINE_S = 60.0


def solve_baselines(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> dict[BaselineKind, SearchResult]:
    """Return the verified result of every baseline under the requirements of one search.

    Baselines that drop layers by block influence are left out if the scores have none. Raises DiagnosticError if a table is
    missing.
    """
    builder = Builder(tables_of(program, search, costs, scores))
    problems = builder.all()
    measured = influence_of(program, builder.tables.search, scores) is not None
    return {
        kind: solve_baseline(builder, problems, Baseline(kind=kind), Effort.of(BASELINE_S))[0]
        for kind in BASELINES
        if measured or kind not in BY_INFLUENCE
    }


def solve_baseline(
    builder: Builder, problems: Problems, baseline: Baseline, effort: Effort
) -> tuple[SearchResult, Problems]:
    """Return a baseline's result, and the problems that it solved, for an explanation."""
    kind, tables = baseline.kind, builder.tables
    match kind:
        case "max_params":
            problems = problems.changed(lambda p, box: params_problem(builder, p, box))
            found = best_meeting_all(tables, problems, replace(effort, gap=MAX_PARAMS_GAP))
            found = replace(found, value=None)  # of another objective
            return heuristic_result(tables, [found], kind, found.proven), problems
        case "noop_only":
            problems = problems.changed(lambda p, _: noop_problem(p))
            found = best_meeting_all(tables, problems, effort)
            return heuristic_result(tables, [found], kind, found.proven), problems
        case "greedy":
            found = best_of_models(problems, (_models_by_greed(problems, box) for box in problems.boxes))
        case "uniform" | "uniform_width":
            models = uniform_models(builder, widths_only=kind == "uniform_width")
            found = best_of_models(problems, [models] * len(problems.boxes))
        case "block_influence":
            found = by_block_influence(problems)
        case "angular_run":
            found = by_angular_distance(problems)
        case "random":
            found = random_answer(problems, baseline.seed, effort)
        case _:
            assert_never(kind)
    return heuristic_result(tables, [found], kind, False), problems


def params_problem(builder: Builder, problem: Problem, box: Box) -> Problem:
    """Return the problem with the number of parameters as its objective, to be maximised."""
    problem = replace(problem, goal=goal_of(builder, PARAMS, "maximize", box), preferences=())
    plain = None if problem.tells_runs else problem.without_runs()
    return problem if plain is None else plain[0]


def noop_problem(problem: Problem) -> Problem:
    """Return the problem with only the parent's sub-blocks and no-ops. A layer without such a column keeps all its columns."""
    choices = problem.columns.choices
    plain = np.array([{c.attention, c.ffn} <= {"parent", "noop"} for c in choices], dtype=np.bool_)
    has_some = np.logical_or.reduceat(plain, problem.columns.start[:-1])
    return problem.only(plain | ~has_some[problem.columns.layer_of])


def _models_by_greed(problems: Problems, box: Box) -> Iterator[Model]:
    """Yield the greedy model at a box's batches; if these are not fixed, at the smallest and at every power of two inside."""
    for batches in _powers(box):
        problem = problems.at(batches)
        chosen = greedy(problem if box.is_single else without_larger(problem))
        if chosen is not None:
            yield problem.choice(chosen)


def _powers(box: Box) -> Iterator[Box]:
    """Yield single boxes: every combination of a scenario's smallest batch and the powers of two in its interval."""
    sides = [
        sorted({low, *(1 << power for power in range(high.bit_length()) if low <= 1 << power <= high)})
        for low, high in zip(box.low, box.high, strict=True)
    ]
    for batches in product(*sides):
        yield Box(box.scenarios, batches, batches)


def uniform_models(builder: Builder, *, widths_only: bool = False) -> tuple[Model, ...]:
    """Return, for each block of the space, the model closest to having it in every layer.

    `widths_only`: only blocks that change KV heads or FFN widths, so that nothing is dropped.
    """
    wanted = dict.fromkeys((c.attention, c.ffn) for c in builder.columns.choices)
    if widths_only:
        kinds = {a.name: a.kind for c in builder.tables.layers for a in (*c.attention, *c.ffn)}
        wanted = {pair: None for pair in wanted if {kinds[name] for name in pair} <= {"parent", "gqa", "mlp"}}
    return tuple(closest(builder, LayerAssignment(attention=a, ffn=f)) for a, f in wanted)


def random_answer(problems: Problems, seed: int, effort: Effort) -> Found:
    """Return a random model that meets every requirement: by uniform draws, or else the optimum for random scores."""
    for box in problems.boxes:
        rng, relaxed = np.random.default_rng(seed), problems.at(box)
        columns, origin = _columns_once(relaxed)
        for _ in range(RANDOM_TRIES):
            drawn = origin[columns.start[:-1] + rng.integers(0, columns.sizes)]
            chosen = relaxed.columns.numbered(drawn)
            if (chosen < 0).any() or not relaxed.is_feasible(chosen):
                continue
            found = taken(problems, relaxed.choice(chosen), box)
            if found is not None:
                return found[1]
    values = np.random.default_rng(seed).integers(0, 2**20, len(problems.builder.columns))
    found_best = best_meeting_all(
        problems.tables, problems.changed(lambda p, _: _with_goal(p, values)), effort
    )
    return replace(found_best, bound=None, proven=False, value=None)


def _columns_once(problem: Problem) -> tuple[Columns, Ints]:
    """Return the columns with each choice of a layer once (without positions in runs), and their columns in the problem."""
    found = problem.without_runs() if problem.columns.period else None
    return (
        (problem.columns, np.arange(len(problem.columns))) if found is None else (found[0].columns, found[1])
    )


def _with_goal(problem: Problem, values: Ints) -> Problem:
    goal = Goal(values, Fraction(1), Fraction(0), 1, False, True)
    return replace(problem, goal=goal, preferences=())
