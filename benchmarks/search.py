"""The search against HiGHS, CBC (through PuLP) and CP-SAT alone: `python -m benchmarks.search [--quick]`.

Everything on one thread, in CPU seconds, solvers in turn on each instance; instances are seeded (see synthetic.py). Ours is
timed from the integer problem to the proven answer, as the others are, and also from the tables to the verified result. A rival
that is stopped at its limit counts with the time it took until then, which only favours it.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import special
from benchmarks.cold import cold_start
from benchmarks.problems import build_problem
from benchmarks.rivals import RIVALS, Said, cpu_s
from benchmarks.synthetic import Inputs, synthetic, with_search
from puzzledsl.ir.nodes import CpSat
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.instance import Effort, Problem
from puzzledsl.search.solve import solve_search

OURS_S = 30


@dataclass(frozen=True, slots=True)
class Family:
    """Instances of one size, and how long each rival may take over one."""

    layers: int
    attention: int
    ffn: int
    requirements: int
    seeds: int
    limits_s: dict[str, float]

    @property
    def name(self) -> str:
        """Layers x alternatives, requirements."""
        return f"{self.layers}x{self.attention * self.ffn}, {self.requirements} constraints"


FAMILIES = (
    Family(32, 6, 9, 2, 4, {"highs": 20, "cbc": 20, "cpsat": 10}),
    Family(32, 6, 9, 3, 12, {"highs": 20, "cbc": 20, "cpsat": 10}),
    Family(32, 6, 9, 6, 4, {"highs": 20, "cbc": 20, "cpsat": 10}),
    Family(80, 6, 9, 2, 4, {"highs": 20, "cbc": 20, "cpsat": 10}),
    Family(80, 6, 9, 3, 12, {"highs": 20, "cbc": 20, "cpsat": 10}),
    Family(80, 6, 9, 6, 4, {"highs": 20, "cbc": 20, "cpsat": 10}),
    Family(126, 6, 9, 3, 6, {"highs": 20, "cbc": 20, "cpsat": 10}),
    Family(80, 10, 20, 3, 6, {"highs": 30, "cbc": 20, "cpsat": 10}),
    Family(200, 20, 25, 3, 4, {"highs": 60}),
    Family(200, 20, 25, 6, 4, {}),
)
TARGETS = {("80x54, 3 constraints", "cbc"): "1/12", ("80x54, 3 constraints", "highs"): "1/20"}
QUICK = (Family(12, 4, 5, 3, 2, {"highs": 5, "cbc": 5, "cpsat": 5}),)


@dataclass(slots=True)
class Tally:
    """Totals over all instances."""

    seconds: dict[str, list[float]] = field(default_factory=dict)  # family and solver -> per instance
    proven: dict[str, list[bool]] = field(default_factory=dict)
    worse: dict[str, int] = field(default_factory=dict)  # rivals' answers that are worse than ours
    better: dict[str, int] = field(default_factory=dict)
    called_optimal: dict[str, int] = field(default_factory=dict)  # though ours is better
    compared: int = 0

    def add(self, family: Family, solver: str, seconds: float, proven: bool) -> None:
        """One run."""
        self.seconds.setdefault(f"{family.name} {solver}", []).append(seconds)
        self.proven.setdefault(f"{family.name} {solver}", []).append(proven)

    def compare(self, solver: str, said: Said, ours: int) -> None:
        """A rival's answer beside ours, in exact integers."""
        if said.value is None:
            return
        self.worse[solver] = self.worse.get(solver, 0) + (said.value > ours)
        self.better[solver] = self.better.get(solver, 0) + (said.value < ours)
        wrong = said.proven and said.value > ours
        self.called_optimal[solver] = self.called_optimal.get(solver, 0) + wrong

    def ratio(self, family: Family, solver: str) -> float | None:
        """The geometric mean of ours over a rival's time."""
        ours = self.seconds.get(f"{family.name} ours", [])
        theirs = self.seconds.get(f"{family.name} {solver}", [])
        return geometric([a / b for a, b in zip(ours, theirs, strict=True)]) if theirs else None


def geometric(values: Sequence[float]) -> float:
    """The geometric mean."""
    return statistics.geometric_mean(values)


def problem_of(inputs: Inputs) -> Problem:
    """The integer problem."""
    program, costs, scores = inputs
    return build_problem(program, "best", costs, scores)


def timed(action: Callable[[], object]) -> float:
    """CPU seconds of an action."""
    began = cpu_s()
    action()
    return cpu_s() - began


# ---------------------------------------------------------------- one family after another


def solve_family(family: Family, tally: Tally) -> Iterator[str]:
    """Ours and the rivals on each seed."""
    gaps = []
    for seed in range(family.seeds):
        inputs = synthetic(
            family.layers, family.attention, family.ffn, seed, requirements=family.requirements
        )
        problem = problem_of(inputs)
        began = cpu_s()
        ours = minimise(problem, Effort.of(OURS_S))
        spent = cpu_s() - began
        assert ours.value is not None and ours.bound is not None
        gaps.append((ours.value - ours.bound) / ours.value)
        tally.add(family, "ours", spent, ours.proven and gaps[-1] <= 1e-6)
        program, costs, scores = with_search(inputs, solver=CpSat(time_s=Fraction(OURS_S), seed=1))
        solved = functools.partial(solve_search, program, "best", costs, scores)
        tally.add(family, "whole", timed(solved), True)
        tally.compared += 1
        for name, limit_s in family.limits_s.items():
            said = RIVALS[name](problem, limit_s)
            tally.add(family, name, said.seconds, said.proven)
            tally.compare(name, said, ours.value)
    yield _family_line(family, tally, gaps)


def _family_line(family: Family, tally: Tally, gaps: list[float]) -> str:
    def mean(solver: str) -> str:
        key = f"{family.name} {solver}"
        proven = f"{sum(tally.proven[key])}/{family.seeds}"
        return f"{solver} {geometric(tally.seconds[key]):.3f} s ({proven})"

    parts = [mean("ours"), f"from tables {geometric(tally.seconds[f'{family.name} whole']):.3f} s"]
    for name in family.limits_s:
        ratio = tally.ratio(family, name)
        assert ratio is not None
        target = TARGETS.get((family.name, name))
        parts.append(f"{mean(name)} = 1/{1 / ratio:.1f}" + (f" (target: {target})" if target else ""))
    return f"{family.name:<24} largest gap {max(gaps):.0e}; " + "; ".join(parts)


# ---------------------------------------------------------------- the whole run


def main() -> None:
    """Print all lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="small instances, in seconds: do the scripts work?"
    )
    options = parser.parse_args()
    tally = Tally()
    families = QUICK if options.quick else FAMILIES
    for family in families:
        for line in solve_family(family, tally):
            print(line, flush=True)
    for line in (*overall(families, tally), *never_worse(tally), *special.lines(options.quick)):
        print(line, flush=True)
    with TemporaryDirectory() as directory:
        print(cold_start(Path(directory), 1 if options.quick else 9))


def overall(families: Sequence[Family], tally: Tally) -> Iterator[str]:
    """All sizes with three constraints together."""
    for solver in RIVALS:
        ratios = [r for f in families if f.requirements == 3 and (r := tally.ratio(f, solver)) is not None]
        if ratios:
            target = {"highs": " (target: 1/15)"}.get(solver, "")
            worst = max(ratios)
            yield (
                f"3 constraints, all {len(ratios)} sizes: ours / {solver} = 1/{1 / geometric(ratios):.1f}{target}; "
                f"of the worst size 1/{1 / worst:.1f}"
            )


def never_worse(tally: Tally) -> Iterator[str]:
    """Compare the rivals' answers with ours, in exact integers."""
    for solver in tally.worse:
        yield (
            f"{tally.compared} instances: {solver}'s answer is better than ours {tally.better[solver]} times (target: none), "
            f"worse {tally.worse[solver]} times, of which it called {tally.called_optimal[solver]} optimal"
        )


if __name__ == "__main__":
    main()
