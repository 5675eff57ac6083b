"""Baselines under the same requirements as the exact search: the paper's (Puzzle, appendix: Tables 10 to 12) and other methods'.

`max_params` and `noop_only` are exact searches with another objective or space; the others are heuristics that may find nothing:
- `greedy`: the paper's, layer by layer within even shares of what is left of every budget.
- `uniform`, `uniform_width`: one block in every layer; of the latter one that drops nothing (Minitron, arXiv 2407.14679).
- `block_influence`: layers dropped by ascending block influence (Men et al., ShortGPT, arXiv 2403.03853).
- `angular_run`: one run of layers dropped, the one whose input and output are closest (Gromov et al., The unreasonable
  ineffectiveness of the deeper layers, arXiv 2403.17887).
- `random`: a random model that meets every requirement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from typing import assert_never

import numpy as np

from puzzledsl.ir import nodes
from puzzledsl.ir.logic import holds, layers_of
from puzzledsl.ir.references import BY_INFLUENCE
from puzzledsl.ir.tables import (
    PARENT,
    Assignment,
    BlockInfluence,
    CostTable,
    EndsAssignment,
    LayerAssignment,
    ScoreTable,
    SearchResult,
    layers_of_child,
)
from puzzledsl.search.answer import best_meeting_all, is_right, result_of
from puzzledsl.search.batches import Found
from puzzledsl.search.effort import Effort
from puzzledsl.search.needs import influence_of
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Goal, Problem
from puzzledsl.search.problem.problem import Builder, Problems, formulas_of, goal_of, without_larger
from puzzledsl.search.tables import tables_of

PARAMS = nodes.Linear(terms=(nodes.WeightedTerm(coefficient=Fraction(1), term=nodes.ParamsTerm()),))
MAX_PARAMS_GAP = 1e-3  # many models have almost as many parameters as the largest that fits
RANDOM_TRIES = 2000
BASELINE_S = 60.0
Model = tuple[Assignment, ...]
Layers = tuple[int, ...]
NO_MODEL = Found(None, {}, None, False)


def solve_baselines(
    program: nodes.Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> dict[nodes.BaselineKind, SearchResult]:
    """Return the verified result of every baseline that a search has scores for. Raises DiagnosticError if a table is missing."""
    builder = Builder(tables_of(program, search, costs, scores))
    problems = builder.all()
    measured = influence_of(program, builder.tables.search, scores) is not None
    return {
        kind: solve_baseline(problems, nodes.Baseline(kind=kind), Effort.of(BASELINE_S))[0]
        for kind in nodes.BASELINES
        if measured or kind not in BY_INFLUENCE
    }


def solve_baseline(
    problems: Problems, baseline: nodes.Baseline, effort: Effort
) -> tuple[SearchResult, Problems]:
    """Return a baseline's result, and the problems whose requirements it has, for an explanation."""
    kind, tables = baseline.kind, problems.tables
    match kind:
        case "max_params":
            found = best_meeting_all(as_solved(problems, kind), replace(effort, gap=MAX_PARAMS_GAP))
            found = replace(found, value=None)  # of another objective
        case "noop_only":
            problems = as_solved(problems, kind)
            found = best_meeting_all(problems, effort)
        case "greedy":
            found = best_of(problems, _by_greed(problems))
        case "uniform" | "uniform_width":
            offered = layers_of_child(problems.builder.columns.choices)
            wanted = dict.fromkeys((c.attention, c.ffn) for c in offered)
            if kind == "uniform_width":  # blocks that drop nothing
                kinds = {a.name: a.kind for c in tables.layers for a in (*c.attention, *c.ffn)}
                wanted = {w: None for w in wanted if {kinds[name] for name in w} <= {"parent", "gqa", "mlp"}}
            blocks = (LayerAssignment(attention=a, ffn=f) for a, f in wanted)
            models = [closest(problems.builder, block) for block in blocks]
            found = best_of(problems, product(problems.boxes, models))
        case "block_influence" | "angular_run":
            found = fewest_drops(problems, kind)
        case "random":
            found = random_answer(problems, baseline.seed, effort)
        case _:
            assert_never(kind)
    none = found.layers is None and found.proven  # a heuristic's answer is never said to be the best
    shown = Found(found.layers, found.batches, None, none, value=found.value)
    return result_of(tables, [shown], kind, 0.0), problems


def as_solved(problems: Problems, solver: str) -> Problems:
    """Return the problems that a solver solves exactly; those of heuristics, and of CP-SAT, are the search's own.

    `max_params` maximises the parameters. `noop_only` leaves the parent's sub-blocks and no-ops, where a layer has them.
    """

    def most_params(problem: Problem, box: Box) -> Problem:
        return replace(problem, goal=goal_of(problems.builder, PARAMS, "maximize", box), preferences=())

    def noops(problem: Problem, _: Box) -> Problem:
        choices = problem.columns.choices
        plain = np.array([{name for _, name in c} <= {"parent", "noop"} for c in choices], dtype=np.bool_)
        has_some = np.logical_or.reduceat(plain, problem.columns.start[:-1])
        return problem.only(plain | ~has_some[problem.columns.layer_of])

    changes = {"max_params": most_params, "noop_only": noops}
    return problems.changed(changes[solver]) if solver in changes else problems


def random_answer(problems: Problems, seed: int, effort: Effort) -> Found:
    """Return a random model that meets every requirement: by uniform draws, or else the optimum for random scores."""
    for box in problems.boxes:
        rng, relaxed = np.random.default_rng(seed), problems.at(box)
        plain = relaxed.without_runs()
        for _ in range(RANDOM_TRIES):
            layers = plain.choice(plain.columns.start[:-1] + rng.integers(0, plain.columns.sizes))
            chosen = relaxed.indices(layers)
            if chosen is None or not relaxed.is_feasible(chosen):
                continue
            found = _taken(problems, layers, box)
            if found is not None:
                return found[1]
    values = np.random.default_rng(seed).integers(0, 2**20, len(problems.builder.columns))
    drawn = problems.changed(lambda p, _: replace(p, goal=Goal(values), preferences=()))
    return replace(best_meeting_all(drawn, effort), proven=False, value=None)


def best_of(problems: Problems, models: Iterable[tuple[Box, Model]]) -> Found:
    """Return the best feasible answer among a heuristic's models, each at batches in a box; NO_MODEL if none is feasible."""
    taken = (_taken(problems, layers, box) for box, layers in models)
    best = min((found for found in taken if found is not None), key=lambda found: found[0], default=None)
    return NO_MODEL if best is None else best[1]


def _taken(problems: Problems, layers: Model, near: Box) -> tuple[Fraction, Found] | None:
    """Return (rank of its objective, answer) of a model at batches in `near`; None if it violates a requirement."""
    box = problems.box_of(layers, near)
    if box is None:
        return None
    problem = problems.at(box)
    chosen = problem.indices(layers)
    if chosen is None or not problem.is_feasible(chosen) or not is_right(problems.tables, problem, layers):
        return None
    found = Found(layers, box.lows, None, False, value=problem.goal.exact_value(chosen))
    return problem.goal.rank(problem.goal.of(chosen)), found


def closest(builder: Builder, wanted: LayerAssignment) -> Model:
    """Return the model with one block in every layer; where it is not offered, the choice closest to it in parameters."""
    columns, costs = builder.columns, builder.tables.costs
    params = attention, ffn = costs.params_attention, costs.params_ffn
    first, second = (
        next(layer[name] for layer in of_part if name in layer)
        for of_part, name in zip(params, (wanted.attention, wanted.ffn), strict=True)
    )

    def apart(layer: int, choice: Assignment) -> int:
        if isinstance(choice, EndsAssignment):
            return sum(name != "parent" for _, name in choice)
        size = abs(attention[layer][choice.attention] - first) + abs(ffn[layer][choice.ffn] - second)
        return 4 * size + (choice.attention != wanted.attention) + (choice.ffn != wanted.ffn)

    distance = np.array([*map(apart, columns.layer_of.tolist(), columns.choices)], dtype=np.int64)
    ends = pairwise(columns.start.tolist())
    return tuple(columns.choices[begin + int(np.argmin(distance[begin:end]))] for begin, end in ends)


def _by_greed(problems: Problems) -> Iterator[tuple[Box, Model]]:
    """Yield the greedy model at each box's batches; if these are not fixed, at the smallest and at every power of two inside."""
    for box in problems.boxes:
        sides = [
            sorted({low, *(1 << power for power in range(high.bit_length()) if low <= 1 << power <= high)})
            for low, high in zip(box.low, box.high, strict=True)
        ]
        for batches in product(*sides):
            problem = problems.at(Box(box.scenarios, batches, batches))
            problem = problem if box.is_single else without_larger(problem)
            plain = problem.without_runs()
            chosen = greedy(plain)
            numbered = None if chosen is None else problem.indices(plain.choice(chosen))
            if numbered is not None and problem.is_feasible(numbered):
                yield box, problem.choice(numbered)


def greedy(problem: Problem) -> Ints | None:
    """Return the greedy choice of columns (Puzzle, appendix); None if the formulas leave some layer without one.

    Easiest layers, of least mean score, come first, each within an even share of what is left of every budget, or with the least
    excess, since later layers may need less than their share.
    """
    columns, values, rows = problem.columns, problem.goal.values, problem.matrix
    means = np.add.reduceat(values.astype(np.float64), columns.start[:-1]) / np.diff(columns.start)
    left = problem.limits.astype(np.float64)
    unit = np.maximum(np.abs(rows).max(axis=1, initial=1), 1).astype(np.float64)
    chosen = np.zeros(columns.layers, dtype=np.int64)
    decided: dict[int, Assignment] = {}
    for done, layer in enumerate(np.argsort(means, kind="stable").tolist()):
        about = [f.logic for f in problem.formulas if layer in layers_of(f.logic)]
        begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
        excess = rows[:, begin:end] - (left / (columns.layers - done))[:, None]
        excess = (np.maximum(excess, 0) / unit[:, None]).sum(axis=0)
        allowed = [i for i in range(begin, end) if _may_be(about, {**decided, layer: columns.choices[i]})]
        if not allowed:
            return None
        best = min(allowed, key=lambda i: (excess[i - begin], values[i], i))
        chosen[layer], decided[layer] = best, columns.choices[best]
        left -= rows[:, best]
    return chosen


def _may_be(formulas: Iterable[nodes.Logic], decided: Mapping[int, Assignment]) -> bool:
    """True unless a formula is false whatever the layers that are not decided take."""
    return all(holds(formula, decided) is not False for formula in formulas)


def fewest_drops(problems: Problems, kind: str) -> Found:
    """Return the first model, from the fewest dropped layers on, that meets every requirement; NO_MODEL if none does.

    Layers that may not be dropped are skipped; kept ones that may not be the parent's are closest to it in parameters.
    """
    tables, builder = problems.tables, problems.builder
    influence = influence_of(tables.program, tables.search, tables.scores)
    assert influence is not None, "`tables_of` reports a table without influences"
    parent, gone = closest(builder, PARENT), tables.dropped()
    formulas = [formula.logic for formula in formulas_of(tables)]

    def may_drop(dropped: Layers) -> bool:
        layers = {i: choice for i in dropped if (choice := gone[i]) is not None}
        offered = all(i in layers and layers[i] in builder.columns.pairs[i] for i in dropped)
        return offered and _may_be(formulas, layers)

    drops = (_by_influence if kind == "block_influence" else _closest_runs)(influence, may_drop)
    models = (
        tuple((gone[i] if i in dropped else None) or own for i, own in enumerate(parent)) for dropped in drops
    )
    tried = (best_of(problems, product(problems.boxes, [model])) for model in models)
    return next((found for found in tried if found.layers is not None), NO_MODEL)


def _by_influence(influence: BlockInfluence, may_drop: Callable[[Layers], bool]) -> Iterator[Layers]:
    """Yield nested sets of dropped layers, from none on, each with the next layer of least influence added."""
    dropped: Layers = ()
    yield dropped
    for layer in sorted(range(len(influence.layers)), key=lambda i: (influence.layers[i], i)):
        if may_drop((*dropped, layer)):
            dropped = (*dropped, layer)
            yield dropped


def _closest_runs(influence: BlockInfluence, may_drop: Callable[[Layers], bool]) -> Iterator[Layers]:
    """Yield no layer, then for each length the allowed run of least angular distance (the first of equals)."""
    yield ()
    for length, of_length in enumerate(influence.runs, start=1):
        runs = [tuple(range(start, start + length)) for start in range(len(of_length))]
        yield from sorted(filter(may_drop, runs), key=lambda run: of_length[run[0]])[:1]
