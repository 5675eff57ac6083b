"""Why there is no answer: `python -m benchmarks.explain [--first 0] [--count 100] [--layers 16]`.

Programs as text that have no solution: one or two forms of structure (structure_forms.py) beside two to four requirements that
pull against each other. Each goes through the checker and the search; plain CP-SAT then judges the conflict on the model that
`pzl compile` exports: with all of its statements there is no answer, without any one of them there is. For each: CPU seconds of
the search and its explanation.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.plain_cpsat import plain_cpsat
from benchmarks.structure_form import Draw
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import program
from benchmarks.structure_text import MENUS, Rng, World
from puzzledsl.checker.check import check
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.score_table import read_score_table
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of

LIMIT_S = 60.0
CHECK_S = 100.0  # for each question
DRAW_S = 2.0  # for each about a text that may have an answer: what is not known by then, the search decides
TARGET_S = 0.5
STRUCTURE = [
    name
    for name, form in FORMS.items()
    if not (form.menu or form.runs or form.priced or form.alone or form.join)
]
PULLS: tuple[Callable[[Rng, Draw], str], ...] = (
    lambda rng, d: f"chat.latency <= {rng.uniform(0.2, 0.8):.3f}x",
    lambda rng, d: f"rag.memory <= {rng.uniform(0.5, 0.9):.3f}x",
    lambda rng, d: f"params >= {rng.uniform(60, 95):.1f}% * p.params",
    lambda rng, d: f"sum(ffn.width) >= {int(rng.uniform(0.5, 0.95) * d.n * max(d.widths))}",
    lambda rng, d: f"sum(attention.kv_heads) <= {int(rng.uniform(0.05, 0.5) * d.n * max(d.kv))}",
    lambda rng, d: f"count(attention is noop) >= {d.part(rng.uniform(0.2, 0.8))}",
    lambda rng, d: f"count(l.ffn is noop for l in layers) <= {d.part(rng.uniform(0.1, 0.5))}",
    lambda rng, d: f"kl <= {rng.uniform(0.05, 1):.3f}",
)


@dataclass(frozen=True)
class Inputs:
    """A program from text, with its tables."""

    program: Program
    costs: CostTable
    scores: dict[str, ScoreTable]

    def without(self, line: int | None, lines: set[int]) -> Inputs:
        """Only the requirements of these lines, without one of them."""
        search = self.program.searches["best"]
        kept = tuple(r for r in search.requirements if r.where.line in lines and r.where.line != line)
        searches = {"best": search.model_copy(update={"requirements": kept})}
        return Inputs(self.program.model_copy(update={"searches": searches}), self.costs, self.scores)

    def has_answer(self, limit_s: float = CHECK_S) -> bool | None:
        """Say by plain CP-SAT whether any child meets the requirements; None if it does not know in time.

        It is asked for the best child, for any, and for the least use of each row in place of its limit: which of these it
        decides sooner, no rule tells. Each gets a moment first.
        """
        builder = Builder(tables_of(self.program, "best", self.costs, self.scores))
        (problem,) = builder.all()
        for seconds in (limit_s / 20, limit_s):
            for asked, most in _questions(problem):
                said = plain_cpsat(asked, seconds)
                if said.value is not None and said.value <= most:
                    return True
                if said.proven:
                    return False
        return None


def _questions(problem: Problem) -> Iterator[tuple[Problem, float]]:
    """Problems with a value up to the given one if and only if this one has an answer."""
    yield problem, math.inf
    rows, goal = problem.rows, problem.goal
    yield replace(problem, goal=replace(goal, values=np.zeros_like(goal.values))), 0
    for place, row in enumerate(rows):
        others = rows[:place] + rows[place + 1 :]
        yield replace(problem, goal=replace(goal, values=row.coefficients), rows=others), row.limit


@dataclass(frozen=True)
class Explained:
    """One program. `judged`: CP-SAT's word on the whole conflict, then on it without each of its statements."""

    seed: int
    requirements: int
    seconds: float
    result: SearchResult
    judged: tuple[bool | None, ...]

    @property
    def is_minimal(self) -> bool:
        """True if the conflict has no answer, and has one without any of its statements."""
        return self.judged[0] is False and all(self.judged[1:])


def text_of(rng: Rng, world: World) -> str:
    """A program with structure and requirements that pull against each other, each on a line of its own."""
    draw = Draw(world, rng)
    forms = rng.choice(STRUCTURE, int(rng.integers(1, 3)), replace=False).tolist()
    lines = [next(iter(FORMS[form].meaning(draw).ways.values())) for form in forms]
    pulls = rng.choice(len(PULLS), int(rng.integers(2, 5)), replace=False).tolist()
    lines += [f"require {PULLS[pull](rng, draw)}" for pull in pulls]
    return program(world, FORMS[forms[0]].meaning(draw), "\n".join(lines), "", LIMIT_S, 0)


def inputs_of(world: World, text: str, folder: Path) -> Inputs | None:
    """Check a text. None if one of its formulas joins what the language does not join (E0310)."""
    for name, content in {"program.pzl": text, **world.files()}.items():
        (folder / name).write_text(content, "utf-8")
    checked = check(folder / "program.pzl", {})
    if {d.code for d in checked.diagnostics if d.severity == "error"} == {"E0310"}:
        return None
    assert checked.program is not None, checked.diagnostics
    made, space = checked.program, checked.program.searches["best"].space
    score = read_score_table(folder / "scores.csv", made.scores["kl"], made.spaces[space])
    return Inputs(made, cost_table(made, space, folder), {"kl": score})


def explained(seed: int, layers: int = 16, *, judge: bool = True) -> Explained:
    """Draw programs until one has no solution. Explain it and, with `judge`, have CP-SAT judge the conflict."""
    rng = np.random.default_rng([seed, layers])
    world = World(layers, seed, MENUS[seed % 3], False)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            inputs = inputs_of(world, text_of(rng, world), Path(folder))
            if inputs is None or inputs.has_answer(DRAW_S):
                continue
            began = time.process_time()
            result = solve_search(inputs.program, "best", inputs.costs, inputs.scores)
            seconds = time.process_time() - began
            if result.status == "infeasible":
                break
    lines = {item.line for item in result.conflict}
    cases = [None, *sorted(lines)] if judge else []
    judged = tuple(inputs.without(line, lines).has_answer() for line in cases)
    count = len({r.where.line for r in inputs.program.searches["best"].requirements})
    return Explained(seed, count, seconds, result, judged)


def main() -> None:
    """Print every program's conflict, then the figures. End with 1 where one is not minimal, or not proven to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--layers", type=int, default=16)
    options = parser.parse_args()
    found = []
    for seed in range(options.first, options.first + options.count):
        it = explained(seed, options.layers)
        found.append(it)
        items = ", ".join(f"line {i.line}: {i.reachable or '-'}" for i in it.result.conflict)
        state = "minimal" if it.is_minimal else f"NOT MINIMAL {it.judged}"
        state += "" if it.result.conflict_minimal else ", not proven in time"
        print(
            f"{seed:4} {it.seconds:6.3f} s  {len(it.result.conflict)} of {it.requirements}  {state}  {items}",
            flush=True,
        )
    times = sorted(it.seconds for it in found)
    print(
        f"\n{len(found)} programs: median {statistics.median(times):.3f} s, most {times[-1]:.3f} s, "
        f"{sum(t < TARGET_S for t in times)} under {TARGET_S} s; {sum(it.is_minimal for it in found)} minimal by plain CP-SAT, "
        f"{sum(it.result.conflict_minimal for it in found)} said to be"
    )
    sys.exit(0 if all(it.is_minimal and it.result.conflict_minimal for it in found) else 1)


if __name__ == "__main__":
    main()
