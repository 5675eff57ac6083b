"""Searches for more than one answer, beside HiGHS asked again and again: frontiers, batches, several answers. Then determinism
and memory, conflicts, and where the laws are that have no figure."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from benchmarks.explain import TARGET_S, explained
from benchmarks.problems import build_problem
from benchmarks.rivals import cpu_s, highs
from benchmarks.synthetic import Inputs, at_any_batch, synthetic, with_search
from puzzledsl.ir.nodes import CpSat, Frontier, MetricTerm, Program
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.instance import Effort
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.solve import point_search, solve_frontier, solve_search, targets
from puzzledsl.search.tables import tables_of

HIGHS_S = 20.0
BATCHES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512)
SIZES = {"80x54": (80, 6, 9), "126x54": (126, 6, 9), "80x200": (80, 10, 20), "200x500": (200, 20, 25)}
LAWS = (
    "tests/search/test_laws.py::test_adding_an_alternative_never_worsens",
    "tests/search/test_laws.py::test_tightening_never_improves_and_loosening_never_worsens",
    "tests/search/test_laws.py::test_permuting_layers_never_changes_the_optimum",
    "tests/search/test_laws.py::test_batches_together_are_the_best_of_each_alone",
)


def lines(quick: bool) -> Iterator[str]:
    """One line each."""
    layers = 12 if quick else 80
    seeds = range(1 if quick else 3)
    yield from (frontier_line(layers, seed, 5 if quick else 30) for seed in seeds)
    yield from batches_lines(layers, range(1 if quick else 12))
    yield from auto_lines(layers, range(1 if quick else 12))
    yield from (several_line(layers, seed, 3 if quick else 10) for seed in seeds)
    yield determinism_line(layers, 1 if quick else 3)
    yield from (memory_line(name) for name in (() if quick else SIZES))
    yield from (hurry_line(seed) for seed in (() if quick else range(6)))
    yield conflicts_line(layers, 1 if quick else 20)
    yield "laws, each a hypothesis test: " + ", ".join(LAWS)


def frontier_line(layers: int, seed: int, points: int) -> str:
    """Every point of a sweep of throughput, and HiGHS solving the same problems."""
    program, costs, scores = synthetic(layers, seed=seed)
    sweep = Frontier(
        name="curve", search="best", term=MetricTerm(scenario="chat", metric="throughput"), low=Fraction(1),
        high=Fraction(5, 2), times_parent=True, points=points, where=program.searches["best"].where,
    )  # fmt: skip
    program = program.model_copy(update={"frontiers": {"curve": sweep}})
    began = cpu_s()
    result = solve_frontier(program, "curve", costs, scores)
    ours = cpu_s() - began
    proven = sum(p.result.status in ("optimal", "infeasible") for p in result.points)
    builder = Builder(tables_of(program, "best", costs, scores))
    theirs, theirs_proven = 0.0, 0
    for target in targets(sweep):
        said = highs(
            next(iter(builder.for_search(point_search(program.searches["best"], sweep, target)).all())),
            HIGHS_S,
        )
        theirs += said.seconds
        theirs_proven += said.proven
    return (
        f"frontier, seed {seed}: {proven} of {points} proven in {ours:.2f} s; "
        f"HiGHS {theirs_proven} in {theirs:.2f} s: 1/{theirs / ours:.1f} (target: 1/25)"
    )


def batches_lines(layers: int, seeds: Sequence[int]) -> Iterator[str]:
    """Twelve candidate batches, and the winning one given: each the median of five solves, some hundredths of a second."""
    ratios = []
    for seed in seeds:
        program, costs, scores = synthetic(layers, seed=seed, batches=BATCHES)
        solve_search(program, "best", costs, scores)  # so that neither is the first to do anything
        result, several = _median_solve(program, costs, scores)
        [solution] = result.solutions
        fixed = costs.model_copy(
            update={
                "scenarios": {
                    name: tuple(at for at in table if at.batch == solution.batches[name])
                    for name, table in costs.scenarios.items()
                }
            }
        )
        again, alone = _median_solve(program, fixed, scores)
        assert again.solutions[0].objective == solution.objective
        ratios.append(several / alone)
        told = f"{result.status} in {several:.3f} s; the best one alone {alone:.3f} s"
        yield f"12 batches, seed {seed}: {told}: {ratios[-1]:.1f}x"
    yield f"12 batches, geometric mean of {len(ratios)}: {statistics.geometric_mean(ratios):.2f}x (target: 3x)"


def auto_lines(layers: int, seeds: Sequence[int]) -> Iterator[str]:
    """Any batch up to the profile's largest, and the winning one given, with the memory that it must fit."""
    ratios = []
    for seed in seeds:
        program, costs, scores = at_any_batch(synthetic(layers, seed=seed, noise=0.0))
        solve_search(program, "best", costs, scores)
        result, several = _median_solve(program, costs, scores)
        tables = tables_of(program, "best", costs, scores)
        batch = result.solutions[0].batches["chat"]
        only = {"scenarios": {**costs.scenarios, "chat": (tables.at("chat", batch),)}, "auto": {}}
        again, alone = _median_solve(program, costs.model_copy(update=only), scores)
        assert again.solutions[0].objective == result.solutions[0].objective
        ratios.append(several / alone)
        told = f"{result.status} in {several:.3f} s; batch {batch} alone {alone:.3f} s"
        yield f"any batch up to {costs.auto['chat']}, seed {seed}: {told}: {ratios[-1]:.1f}x"
    yield f"any batch, geometric mean of {len(ratios)}: {statistics.geometric_mean(ratios):.2f}x"


def _median_solve(
    program: Program, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> tuple[SearchResult, float]:
    """The answer and the CPU seconds of one solve."""
    took = []
    for _ in range(5):
        began = cpu_s()
        result = solve_search(program, "best", costs, scores)
        took.append(cpu_s() - began)
    return result, statistics.median(took)


def several_line(layers: int, seed: int, number: int, apart: int = 3) -> str:
    """Answers that differ from each other, and HiGHS asked for one after the other."""
    inputs = with_search(
        synthetic(layers, seed=seed),
        solutions=number,
        apart=apart,
        solver=CpSat(time_s=Fraction(120), seed=1),
    )
    program, costs, scores = inputs
    began = cpu_s()
    result = solve_search(program, "best", costs, scores)
    ours = cpu_s() - began
    problem, theirs = build_problem(program, "best", costs, scores), 0.0
    for solution in result.solutions:
        theirs += highs(problem, HIGHS_S).seconds
        problem = problem.with_rows(problem.apart_from(solution.layers, apart))
    return (
        f"{number} answers {apart} apart, seed {seed}: {len(result.solutions)} {result.status} in {ours:.2f} s; "
        f"HiGHS {theirs:.2f} s: 1/{theirs / ours:.1f} (target: 1/10)"
    )


def determinism_line(layers: int, instances: int) -> str:
    """The same answer for 1, 2 and 4 workers and five seeds of the solver."""
    different = 0
    for seed in range(instances):
        inputs = synthetic(layers, seed=seed, requirements=6)
        answers = set()
        for workers in (1, 2, 4):
            for solver_seed in range(5):
                program, costs, scores = _seeded(inputs, solver_seed)
                result = solve_search(program, "best", costs, scores, workers=workers)
                answers.add(result.canonical_json())
        different += len(answers) > 1
    return f"determinism: {different} of {instances} instances differ over 1, 2, 4 workers x 5 seeds (target: none)"


def _seeded(inputs: Inputs, seed: int) -> Inputs:
    return with_search(inputs, solver=CpSat(time_s=Fraction(120), seed=seed))


# ---------------------------------------------------------------- memory


def memory_line(name: str) -> str:
    """Peak memory of a process that solves, above what it had with the problem built."""
    code = f"from benchmarks.special import grown_mb; print(grown_mb({name!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return f"extra memory of {name}, 3 constraints: {float(run.stdout):.0f} MB (target: 100 MB)"


def grown_mb(name: str) -> float:
    """In this process: how far its peak while it solves is above what it held before, of the worst of some seeds."""
    worst = 0.0
    for seed in range(3):
        program, costs, scores = synthetic(*SIZES[name], seed=seed)
        problem = build_problem(program, "best", costs, scores)
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = _memory_mb("VmRSS")
        minimise(problem, Effort.of(60))
        worst = max(worst, _memory_mb("VmHWM") - before)
    return worst


def _memory_mb(field: str) -> float:
    """VmRSS: what this process holds; VmHWM: the most it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024


# ---------------------------------------------------------------- in a hurry


def hurry_line(seed: int) -> str:
    """200x500 with six constraints, as a user in a hurry states it: a second, and a gap of a thousandth will do."""
    inputs = synthetic(200, 20, 25, seed=seed, requirements=6)
    program, costs, scores = with_search(
        inputs, solver=CpSat(time_s=Fraction(1), gap=Fraction(1, 1000), seed=1)
    )
    began = cpu_s()
    result = solve_search(program, "best", costs, scores)
    spent = cpu_s() - began
    assert result.gap is not None
    return (
        f"200x500, 6 constraints, time 1 s, gap 1e-3, seed {seed}: {result.status}, gap {result.gap:.0e} "
        f"in {spent:.2f} s from the tables (target: 1e-3 in 1 s)"
    )


# ---------------------------------------------------------------- no answer


def conflicts_line(layers: int, instances: int) -> str:
    """The first instances of `python -m benchmarks.explain`, whose own default is a hundred."""
    found = [explained(seed, layers=layers) for seed in range(instances)]
    times = [it.seconds for it in found]
    return (
        f"conflicts of {layers} layers, {instances} of the 100 instances of `python -m benchmarks.explain`: "
        f"median {statistics.median(times):.3f} s, most {max(times):.3f} s (target: {TARGET_S} s); "
        f"{sum(it.is_minimal for it in found)} minimal (target: all)"
    )
