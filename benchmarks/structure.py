"""Searches with structural requirements, ours against CP-SAT alone: `python -m benchmarks.structure [--quick]`.

Both on one thread, in CPU seconds. CP-SAT solves the model that the search exports (plain_cpsat.py); building it is not counted.
Ours is timed from the integer problem to the proven answer and, for the first seed of each kind, from the tables to the verified
result. A solver stopped at its limit (of CPU seconds, cpu_limits.py) counts with the time it took until then. Instances are
seeded (structures.py). Single cells: `--kind narrowing --layers 32 --seeds 0 2 --each`.

`--random N`, `--deadlines N` and `--same N` run checks in place of the comparison (structure_checks.py).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain

from benchmarks.cpu_limits import with_cpu_limit
from benchmarks.plain_cpsat import plain_cpsat
from benchmarks.problems import build_problem
from benchmarks.rivals import Said, cpu_s
from benchmarks.structure_checks import deadlines, mistakes, random_programs, same_bytes
from benchmarks.structures import ALL_KINDS, structured
from benchmarks.synthetic import Inputs, with_search
from puzzledsl.ir.nodes import CpSat
from puzzledsl.search.effort import Effort
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.solve import solve_search

LAYERS = (16, 32, 80)
SEEDS = (0, 1, 2)
LIMIT_S = 20.0
ALLOWED_S = 0.3  # of ours, that no ratio counts
MOST = 1.5  # times CP-SAT's time, beyond that
MEAN = 0.7
SHORTEST_S = 1e-4


@dataclass(frozen=True, slots=True)
class Run:
    """Both solvers on one instance. `wrong`: mistakes of ours, in words; `worse`: CP-SAT's answer is better, or ours has none."""

    kind: str
    layers: int
    seed: int
    ours_s: float
    ours_proven: bool
    cpsat: Said
    wrong: tuple[str, ...]
    worse: bool = False
    whole_s: float | None = None

    @property
    def ratio(self) -> float:
        """Our time over CP-SAT's."""
        return max(self.ours_s, SHORTEST_S) / max(self.cpsat.seconds, SHORTEST_S)

    @property
    def excess(self) -> float:
        """Our time beyond what is allowed, over CP-SAT's."""
        return max(0.0, self.ours_s - ALLOWED_S) / max(self.cpsat.seconds, SHORTEST_S)

    @property
    def unproven(self) -> bool:
        """Only CP-SAT proves its answer."""
        return self.cpsat.proven and not self.ours_proven


def run(kind: str, layers: int, seed: int, limit_s: float, *, whole: bool) -> Run:
    """One instance; `whole`: from the tables too."""
    inputs = structured(kind, layers, seed)
    program, costs, scores = inputs
    problem = replace(build_problem(program, "best", costs, scores), diagram=None)  # making it counts as ours
    timed = with_cpu_limit(lambda s: minimise(problem, Effort.of(s)), limit_s, lambda found: found.proven)
    said = with_cpu_limit(lambda s: plain_cpsat(problem, s), limit_s, lambda found: found.proven).answer
    ours = timed.answer
    whole_s = _from_tables(inputs, limit_s) if whole else None
    wrong = tuple(mistakes(problem, ours, said.value, proven=said.proven))
    worse = said.value is not None and (ours.value is None or ours.value > said.value)
    return Run(kind, layers, seed, timed.seconds, ours.proven, said, wrong, worse, whole_s)


def _from_tables(inputs: Inputs, limit_s: float) -> float:
    """CPU seconds from the tables to the verified result."""
    program, costs, scores = with_search(inputs, solver=CpSat(time_s=Fraction(limit_s)))
    began = cpu_s()
    solve_search(program, "best", costs, scores)
    return cpu_s() - began


# ---------------------------------------------------------------- lines


def cell_line(runs: Sequence[Run]) -> str:
    """All seeds of one kind and size."""
    first, count = runs[0], len(runs)
    ours, theirs = (geometric(t) for t in ([r.ours_s for r in runs], [r.cpsat.seconds for r in runs]))
    parts = [
        f"ours {ours:.3f} s, CP-SAT {theirs:.3f} s",
        f"ratio {geometric([r.ratio for r in runs]):.2f}",
        f"worst (ours - {ALLOWED_S} s) / CP-SAT {max(r.excess for r in runs):.2f}",
        f"proven {sum(r.ours_proven for r in runs)}/{count} and {sum(r.cpsat.proven for r in runs)}/{count}",
        *(f"from tables {r.whole_s:.2f} s" for r in runs if r.whole_s is not None),
        *(f"seed {r.seed}: {mistake}" for r in runs for mistake in r.wrong),
        *(f"seed {r.seed}: CP-SAT's answer is better" for r in runs if r.worse),
    ]
    return f"{first.kind:<17} {first.layers:>3} layers: " + "; ".join(parts)


def each_line(one: Run) -> str:
    """One instance."""
    proofs = [("proven" if proven else "not proven") for proven in (one.ours_proven, one.cpsat.proven)]
    return (
        f"  {one.kind} {one.layers} seed {one.seed}: ours {one.ours_s:.3f} s {proofs[0]}, "
        f"CP-SAT {one.cpsat.seconds:.3f} s {proofs[1]}{''.join(f', {m}' for m in one.wrong)}"
    )


def summary(runs: Sequence[Run]) -> Iterator[str]:
    """All instances, beside the targets."""
    unproven, slow = sum(r.unproven for r in runs), sum(r.excess > MOST for r in runs)
    wrong = sum(bool(r.wrong) for r in runs)
    yield f"{len(runs)} instances: {wrong} wrong answers, {sum(r.worse for r in runs)} worse than CP-SAT's (targets: 0)"
    yield f"not proven by ours where CP-SAT proves it: {unproven} (target: 0)"
    yield f"slower than {MOST} x CP-SAT + {ALLOWED_S} s: {slow} (target: 0), worst {max(r.excess for r in runs):.2f} x"
    mean = geometric([r.ratio for r in runs])
    yield f"geometric mean of ours / CP-SAT: {mean:.2f} (target: below {MEAN})"


def geometric(values: Sequence[float]) -> float:
    """The geometric mean, of times at least SHORTEST_S."""
    return statistics.geometric_mean(max(value, SHORTEST_S) for value in values)


# ---------------------------------------------------------------- the whole run


def main() -> None:
    """Print all lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small instances of all kinds, in seconds")
    parser.add_argument("--kind", nargs="+", choices=ALL_KINDS, default=[*ALL_KINDS])
    parser.add_argument("--layers", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument(
        "--limit", type=float, default=LIMIT_S, help="CPU seconds for each solver (default: 20)"
    )
    parser.add_argument("--each", action="store_true", help="a line an instance too")
    parser.add_argument(
        "--random", type=int, metavar="N", help="random programs: wrong answers, ends past the limit"
    )
    parser.add_argument(
        "--deadlines", type=int, metavar="N", help="hard searches: which end after their limit"
    )
    parser.add_argument(
        "--same", type=int, metavar="N", help="searches whose result is the same for any seed and workers"
    )
    options = parser.parse_args()
    checks = [
        (random_programs(options.random, quick=options.quick) if options.random else ()),
        (deadlines(options.deadlines, quick=options.quick) if options.deadlines else ()),
        (same_bytes(options.same, quick=options.quick) if options.same else ()),
    ]
    for line in chain(*checks):
        print(line, flush=True)
    if options.random or options.deadlines or options.same:
        return
    compare(
        options.kind,
        options.layers or ([6] if options.quick else LAYERS),
        options.seeds or ([0] if options.quick else SEEDS),
        options.limit,
        each=options.each,
    )


def compare(
    kinds: Sequence[str], sizes: Sequence[int], seeds: Sequence[int], limit_s: float, *, each: bool = False
) -> None:
    """Print a line a kind and size, then the summary."""
    runs: list[Run] = []
    for layers in sizes:
        for kind in kinds:
            cell = []
            for seed in seeds:
                cell.append(run(kind, layers, seed, limit_s, whole=seed == seeds[0]))
                if each:
                    print(each_line(cell[-1]), flush=True)
            print(cell_line(cell), flush=True)
            runs += cell
    for line in summary(runs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
