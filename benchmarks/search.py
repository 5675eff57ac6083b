"""How long searches take: `python -m benchmarks.search [--seconds 10] [--seeds 3]`.

Synthetic models (see synthetic.py), one worker. Every row is solved to its proven optimum, or stopped at the time
limit, which shows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from fractions import Fraction

from benchmarks.synthetic import Inputs, synthetic
from puzzledsl.ir.nodes import Baseline, CpSat, Frontier, MetricTerm
from puzzledsl.search.bound import lagrangian_bound
from puzzledsl.search.frontier import solve_frontier
from puzzledsl.search.problem import build_problem
from puzzledsl.search.solve import solve_search

SIZES = ((32, 6, 9), (80, 6, 9), (126, 8, 12))


def with_search(inputs: Inputs, **changes: object) -> Inputs:
    """The same tables with another search."""
    program, costs, scores = inputs
    search = program.searches["best"].model_copy(update=changes)
    return program.model_copy(update={"searches": {"best": search}}), costs, scores


def timed_solve(inputs: Inputs, label: str) -> str:
    """One line: seconds, status, objective, gap."""
    program, costs, scores = inputs
    began = time.perf_counter()
    result = solve_search(program, "best", costs, scores)
    seconds = time.perf_counter() - began
    gap = "" if result.gap is None else f"gap {result.gap:.1e}"
    return f"{label:<34} {seconds:8.3f} s  {result.status:<10} {result.objective or 0:.6g}  {gap}"


def rows(seconds: int, seeds: int) -> Iterator[str]:
    """All measurements, one line each."""
    exact = CpSat(time_s=Fraction(seconds), seed=1)
    for layers, attention, ffn in SIZES:
        for seed in range(seeds):
            inputs = with_search(synthetic(layers, attention, ffn, seed), solver=exact)
            label = f"{layers} x {attention * ffn}, seed {seed}"
            began = time.perf_counter()
            problem = build_problem(inputs[0], "best", *inputs[1:])
            built = time.perf_counter()
            lagrangian_bound(problem)
            yield f"{label + ', build':<34} {built - began:8.3f} s"
            yield f"{label + ', bound':<34} {time.perf_counter() - built:8.3f} s"
            yield timed_solve(inputs, label)
    inputs = synthetic(speedup=Fraction(3, 2), seed=1)
    yield timed_solve(with_search(inputs, solver=exact, solutions=10, apart=3), "10 solutions 3 apart")
    for kind in ("greedy", "max_params", "uniform", "random", "noop_only"):
        yield timed_solve(with_search(inputs, solver=Baseline.model_validate({"kind": kind})), kind)
    yield frontier_row(with_search(inputs, solver=exact))


def frontier_row(inputs: Inputs, points: int = 10) -> str:
    """A sweep of throughput."""
    program, costs, scores = inputs
    sweep = Frontier(
        name="curve",
        search="best",
        term=MetricTerm(scenario="chat", metric="throughput"),
        low=Fraction(1),
        high=Fraction(3),
        times_parent=True,
        points=points,
        where=program.searches["best"].where,
    )
    program = program.model_copy(update={"frontiers": {"curve": sweep}})
    began = time.perf_counter()
    result = solve_frontier(program, "curve", costs, scores)
    proven = sum(p.result.status in ("optimal", "infeasible") for p in result.points)
    return f"{f'frontier of {points}':<34} {time.perf_counter() - began:8.3f} s  {proven} of {points} proven"


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="time limit of each solve")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for row in rows(options.seconds, options.seeds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
