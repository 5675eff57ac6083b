"""Why there is no answer: `python -m benchmarks.explain [--count 100] [--check]`.

Random searches without a solution (see infeasible.py). For each: CPU seconds for the conflict and its reachable values once the
tables are read, and whether the conflict is one: no model meets it, and some model meets it without any one of its members
(the models are recomputed exactly). `--check` also proves each conflict with plain CP-SAT: no bound of ours, no column left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, replace

from benchmarks.infeasible import infeasible
from puzzledsl.search.cpsat.solve import run_cpsat
from puzzledsl.search.effort import Effort
from puzzledsl.search.infeasible.explain import Conflict, explain
from puzzledsl.search.infeasible.feasible import Feasibility, Kept, subset_of
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.tables import tables_of

SECONDS = 60
CHECK_SECONDS = 120
TARGET_S = 0.5


@dataclass(frozen=True)
class Explained:
    """One instance. `is_minimal`: feasible without any one member. `is_conflict`: None where it was not checked."""

    seed: int
    requirements: int
    seconds: float
    conflict: Conflict
    is_minimal: bool
    is_conflict: bool | None


def explained(seed: int, check: bool = False, layers: int = 80) -> Explained:
    """Explain one instance and try its conflict."""
    program, costs, scores = infeasible(seed, layers)
    builder = Builder(tables_of(program, "best", costs, scores))
    began = time.process_time()
    problems = builder.all()
    conflict = explain(builder, problems, Effort.of(SECONDS))
    seconds = time.process_time() - began
    members = frozenset(i for group in conflict.groups for i in group)
    fresh = Feasibility(builder.tables, problems, Effort.of(SECONDS))
    minimal = all(fresh.can_meet(members - set(group)) for group in conflict.groups)
    proven = all(has_none(problem, members) for problem in problems) if check else None
    lines = {r.where.line for r in builder.tables.search.requirements}
    return Explained(seed, len(lines), seconds, conflict, minimal, proven)


def has_none(problem: Problem, kept: Kept) -> bool:
    """Plain CP-SAT's word that no model meets these requirements: how far one of them goes with the others kept."""
    problem = subset_of(problem, kept)
    if not problem.rows:
        return run_cpsat(problem, Effort.of(CHECK_SECONDS)).proven
    aim = problem.rows[-1]
    goal = replace(problem.goal, values=aim.coefficients, exact=True, tokens=None)
    aimed = replace(problem, goal=goal, rows=problem.rows[:-1], preferences=())
    answer = run_cpsat(aimed, Effort.of(CHECK_SECONDS, gap=0.0))
    return answer.bound > aim.limit if answer.bound is not None else answer.proven


def main() -> None:
    """Print every instance, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="prove each conflict with plain CP-SAT too")
    options = parser.parse_args()
    found = []
    for seed in range(options.first, options.first + options.count):
        it = explained(seed, options.check)
        found.append(it)
        items = ", ".join(f"line {i.line}: {i.reachable or '-'}" for i in it.conflict.items)
        state = "minimal" if it.is_minimal else "NOT MINIMAL"
        state += {True: ", proven", False: ", NOT PROVEN", None: ""}[it.is_conflict]
        print(
            f"{seed:4} {it.seconds:6.3f} s  {len(it.conflict.items)} of {it.requirements}  {state}  {items}",
            flush=True,
        )
    times = sorted(it.seconds for it in found)
    print(
        f"\n{len(found)} instances: median {statistics.median(times):.3f} s, most {times[-1]:.3f} s,", end=" "
    )
    print(
        f"{sum(t < TARGET_S for t in times)} under {TARGET_S} s; {sum(it.is_minimal for it in found)} minimal",
        end="",
    )
    print(f", {sum(bool(it.is_conflict) for it in found)} proven by plain CP-SAT" if options.check else "")


if __name__ == "__main__":
    main()
