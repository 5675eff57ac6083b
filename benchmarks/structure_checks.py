"""Checks of searches with structure: right answers, ends within the limit, the same bytes for any seed and number of workers.

Run by `python -m benchmarks.structure` with `--random N`, `--deadlines N` or `--same N`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise, product

import numpy as np

from benchmarks.plain_cpsat import meets, plain_cpsat
from benchmarks.problems import build_problem
from benchmarks.structure_kinds import KINDS, Rng
from benchmarks.structures import RUN_SCORES, SMALL, WIDE, Choice, mixed
from benchmarks.synthetic import Inputs, synthetic, with_search
from puzzledsl.ir.nodes import CpSat
from puzzledsl.search.effort import Effort
from puzzledsl.search.portfolio.minimise import Outcome, minimise
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.solve import solve_search

LATE_S, LATE_SHARE = 0.3, 0.05  # a run may end so much after its limit, whichever is more
SMALL_LAYERS, MID_LAYERS, QUICK_LAYERS = (3, 6), (8, 25), (4, 8)
MID_LIMITS_S = (0.5, 1.0, 3.0)
PLAIN_S = 20.0
LIMITS_S = (1, 5, 20)
WORKERS = (1, 2, 4)
SEEDS = range(5)
SAME_S, SAME_LAYERS = 120, (4, 13)


def is_late(limit_s: float, wall_s: float) -> bool:
    """The run ended after its limit, by more than is allowed."""
    return wall_s > limit_s + max(LATE_S, LATE_SHARE * limit_s)


def drawn(rng: Rng, layers: int, seed: int, requirements: int, choice: Choice | None) -> Inputs:
    """A search with one to three kinds of structure that do not contradict each other; every third one has scores of runs."""
    more = [RUN_SCORES] if seed % 3 == 2 else []
    while True:
        places = rng.permutation(len(KINDS))[: int(rng.integers(1, 4))].tolist()
        try:
            return mixed([*(list(KINDS)[i] for i in places), *more], layers, seed, requirements, choice)
        except RuntimeError:  # they contradict each other
            continue


# ---------------------------------------------------------------- random programs


@dataclass(slots=True)
class Checked:
    """Counts over random programs."""

    small: int = 0
    mid: int = 0
    unproven: int = 0  # of the middle ones, which CP-SAT proves within its limit
    wrong: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)


def random_programs(number: int, *, quick: bool = False) -> Iterator[str]:
    """Every second program small enough for brute force, the others compared with CP-SAT alone; with `quick` fewer layers."""
    checked = Checked()
    for seed in range(number):
        if seed % 2 == 0:
            _small(seed, checked)
        else:
            _mid(seed, checked, QUICK_LAYERS if quick else MID_LAYERS)
        yield from checked.wrong[-1:] if checked.wrong and checked.wrong[-1].startswith(f"{seed}:") else ()
    yield (
        f"{checked.small} small programs against brute force, {checked.mid} larger ones against CP-SAT: "
        f"{len(checked.wrong)} wrong answers, {len(checked.late)} past the limit (targets: 0); "
        f"{checked.unproven} that only CP-SAT proves"
    )
    yield from checked.late


def _small(seed: int, checked: Checked) -> None:
    rng = np.random.default_rng([seed, 1])
    layers = int(rng.integers(*SMALL_LAYERS))
    problem = _problem(drawn(rng, layers, seed, int(rng.integers(1, 4)), SMALL))
    found = _timed(problem, PLAIN_S, seed, checked)
    best = brute_force(problem)
    checked.small += 1
    ours = None if found.chosen is None else found.chosen.tolist()
    if not found.proven or ours != (None if best is None else best.tolist()):
        checked.wrong.append(f"{seed}: {layers} layers: {ours} ({found.value}), by brute force {best}")


def _mid(seed: int, checked: Checked, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng([seed, 2])
    problem = _problem(drawn(rng, int(rng.integers(*sizes)), seed, int(rng.integers(1, 4)), None))
    limit_s = MID_LIMITS_S[seed // 2 % len(MID_LIMITS_S)]
    found = _timed(problem, limit_s, seed, checked)
    said = plain_cpsat(problem, PLAIN_S)
    checked.mid += 1
    checked.unproven += said.proven and not found.proven
    if mistake := next(mistakes(problem, found, said.value, proven=said.proven), None):
        checked.wrong.append(f"{seed}: {problem.columns.layers} layers: {mistake}")


def _problem(inputs: Inputs) -> Problem:
    program, costs, scores = inputs
    return build_problem(program, "best", costs, scores)


def _timed(problem: Problem, limit_s: float, seed: int, checked: Checked) -> Outcome:
    began = time.monotonic()
    found = minimise(problem, Effort.of(limit_s))
    wall_s = time.monotonic() - began
    if is_late(limit_s, wall_s):
        checked.late.append(f"{seed}: {wall_s:.2f} s of {limit_s} s")
    return found


def brute_force(problem: Problem) -> Ints | None:
    """The first of the best models, by trying all; None where none meets everything."""
    spans = [range(begin, end) for begin, end in pairwise(problem.columns.start.tolist())]
    models = np.array([*product(*spans)], dtype=np.int64)
    inside = (problem.matrix[:, models].sum(axis=2) <= problem.limits[:, None]).all(axis=0)
    models = models[inside]
    for place in np.argsort(problem.goal.values[models].sum(axis=1), kind="stable").tolist():
        if meets(problem, models[place]):
            return np.asarray(models[place], dtype=np.int64)
    return None


def mistakes(problem: Problem, ours: Outcome, value: int | None, *, proven: bool) -> Iterator[str]:
    """Everything wrong with our answer, by exact code and by another solver's `value`."""
    if ours.chosen is not None:
        if not meets(problem, ours.chosen):
            yield "our answer breaks a requirement"
        if problem.goal.of(ours.chosen) != ours.value:
            yield "our answer has another value"
    elif ours.proven and value is not None:
        yield "we say that there is no answer"
    if value is None:
        return
    if ours.bound is not None and ours.bound > value:
        yield "our bound is above the other solver's answer"
    if ours.value is not None and ours.proven and ours.value > value:
        yield "we call optimal what is not"
    if proven and ours.value is not None and ours.value < value:
        yield "the other solver calls optimal what is not"


# ---------------------------------------------------------------- limits of time


def deadlines(number: int, *, quick: bool = False) -> Iterator[str]:
    """Hard searches at each limit of time, through the whole of `solve_search`: which end late, and by how much."""
    limits_s, runs, over = (LIMITS_S[:1] if quick else LIMITS_S), 0, []
    for seed in range(number):
        name, inputs = _hard(seed, quick=quick)
        for limit_s in limits_s:
            program, costs, scores = with_search(inputs, solver=CpSat(time_s=Fraction(limit_s)))
            began = time.monotonic()
            result = solve_search(program, "best", costs, scores)
            wall_s = time.monotonic() - began
            runs += 1
            if is_late(limit_s, wall_s):
                over.append(wall_s - limit_s)
                yield f"{name}, time {limit_s} s: {wall_s:.2f} s ({result.status})"
    most = f", by up to {max(over):.2f} s" if over else ""
    yield (
        f"{runs} runs of {number} hard searches: {len(over)} ended more than {LATE_S} s and {LATE_SHARE:.0%} late"
        f"{most} (target: 0)"
    )


def _hard(seed: int, *, quick: bool) -> tuple[str, Inputs]:
    """Every fourth one 200 x 500 with six budgets and no structure, the others 80 layers with structure."""
    rng = np.random.default_rng([seed, 3])
    if seed % 4 == 3:
        return f"200x500, seed {seed}", synthetic(200, 20, 25, seed, requirements=6)
    layers, choice = (12, None) if quick else (80, WIDE if seed % 2 else None)
    return f"{layers} layers with structure, seed {seed}", drawn(rng, layers, seed, 2 + seed % 3, choice)


# ---------------------------------------------------------------- the same bytes


def same_bytes(number: int, *, quick: bool = False) -> Iterator[str]:
    """The result of proven searches as JSON, for each number of workers and each seed."""
    different, unproven = 0, 0
    for seed in range(number):
        rng = np.random.default_rng([seed, 4])
        layers = int(rng.integers(*(QUICK_LAYERS if quick else SAME_LAYERS)))
        inputs = drawn(rng, layers, seed, int(rng.integers(1, 4)), None)
        results, optimal = _results(inputs)
        unproven += not optimal
        if optimal and len(results) > 1:
            different += 1
            yield f"seed {seed}, {layers} layers: {len(results)} different results"
    yield (
        f"{number} searches, {len(WORKERS)} numbers of workers x {len(SEEDS)} seeds: {different} differ "
        f"(target: 0), {unproven} not proven in {SAME_S} s"
    )


def _results(inputs: Inputs) -> tuple[set[str], bool]:
    """The different results, and whether all are proven."""
    results, optimal = set(), True
    for workers, seed in product(WORKERS, SEEDS):
        program, costs, scores = with_search(inputs, solver=CpSat(time_s=Fraction(SAME_S), seed=seed))
        result = solve_search(program, "best", costs, scores, workers=workers)
        results.add(result.canonical_json())
        optimal &= result.status == "optimal"
        if not optimal:
            break
    return results, optimal
