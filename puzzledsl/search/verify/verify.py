"""Independent verification of a solution, in exact fractions from the tables. Imports no solver and no code of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from puzzledsl.ir.alternatives import name_of
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, ScoreTable, Solution
from puzzledsl.search.problem.metrics import Child, report
from puzzledsl.search.tables import Tables, tables_of
from puzzledsl.search.verify.batches import largest_batch


@dataclass(frozen=True, slots=True)
class Violation:
    """One mistake in a solution."""

    kind: Literal["shape", "choice", "batch", "requirement", "objective", "metric"]
    message: str


def verify(
    program: Program,
    search: str,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    solution: Solution,
) -> list[Violation]:
    """Return all mistakes in a solution: choices outside the space, violated requirements, metrics that differ from the tables.

    Empty if it is right. Raises DiagnosticError if a table is missing.
    """
    return verify_with(tables_of(program, search, costs, scores), solution)


def verify_with(tables: Tables, solution: Solution) -> list[Violation]:
    """Verify a solution as `verify` does, with inputs that are checked already."""
    wrong = _choices(tables, solution) or _batches(tables, solution)
    if wrong:
        return wrong
    child = Child(
        tables, solution.layers, {name: b for name, b in solution.batches.items() if name in tables.scenarios}
    )
    misfits = [
        Violation("batch", f"batch {solution.batches[name]} of scenario {name} is not the largest that fits")
        for name in tables.scenarios
        if not _is_largest(child, name)
    ]
    broken = [
        Violation("requirement", f"requirement {number} `{requirement.where.text}` does not hold")
        for number, requirement in enumerate(tables.search.requirements, start=1)
        if not child.meets(requirement)
    ]
    return misfits + broken + _figures(child, solution)


def _choices(tables: Tables, solution: Solution) -> list[Violation]:
    if len(solution.layers) != len(tables.layers):
        return [Violation("shape", f"{len(solution.layers)} layers instead of {len(tables.layers)}")]
    wrong = []
    for index, (chosen, choice) in enumerate(zip(solution.layers, tables.layers, strict=True)):
        if chosen.attention not in map(name_of, choice.attention):
            wrong.append(Violation("choice", f"layer {index} may not have attention {chosen.attention}"))
        if chosen.ffn not in map(name_of, choice.ffn):
            wrong.append(Violation("choice", f"layer {index} may not have ffn {chosen.ffn}"))
    return wrong


def _is_largest(child: Child, scenario: str) -> bool:
    """True if a batch is given, or is the largest at which the model fits; on a profile, found by trying batches."""
    tables, batch = child.tables, child.batches[scenario]
    if scenario not in tables.costs.auto:
        return child.fits(scenario)
    return batch == largest_batch(tables.program, tables.costs, scenario, child.layers, batch)


def _batches(tables: Tables, solution: Solution) -> list[Violation]:
    wrong = []
    for name in tables.scenarios:
        if solution.batches.get(name) not in tables.candidates(name):
            wrong.append(Violation("batch", f"scenario {name} has no batch {solution.batches.get(name)}"))
    return wrong


def _figures(child: Child, solution: Solution) -> list[Violation]:
    wrong = []
    objective = float(child.linear(child.tables.search.objective))
    if objective != solution.objective:
        wrong.append(Violation("objective", f"the objective is {objective!r}, not {solution.objective!r}"))
    batches, metrics = report(child)
    if batches != solution.batches:
        wrong.append(Violation("batch", f"the batches are {batches}, not {solution.batches}"))
    for name in sorted(metrics.keys() | solution.metrics.keys()):
        if metrics.get(name) != solution.metrics.get(name):
            wrong.append(
                Violation("metric", f"{name} is {metrics.get(name)!r}, not {solution.metrics.get(name)!r}")
            )
    return wrong
