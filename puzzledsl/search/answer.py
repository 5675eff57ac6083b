"""Verified solutions: exact objectives and metrics of the solvers' answers, and of any child that a user names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Literal, assert_never

from puzzledsl.ir.nodes import LinearRequirement, LogicRequirement, MetricTerm, Requirement
from puzzledsl.ir.search_nodes import written
from puzzledsl.ir.tables import LayerAssignment, SearchResult, Solution
from puzzledsl.search.batches.exact import Found
from puzzledsl.search.needs import terms_of
from puzzledsl.search.problem.metrics import Child, exact_report, report
from puzzledsl.search.tables import Tables
from puzzledsl.search.verify.verify import verify


def solution_of(tables: Tables, layers: Sequence[LayerAssignment], batches: dict[str, int]) -> Solution:
    """Return the solution of chosen layers and batches with its objective and all metrics. It is not verified here."""
    child = Child(tables, tuple(layers), batches)
    all_batches, metrics = report(child)
    return Solution(
        objective=float(child.linear(tables.search.objective)),
        layers=child.layers,
        batches=all_batches,
        metrics=metrics,
    )


def result_of(tables: Tables, found: Sequence[Found], solver: str, gap: float) -> SearchResult:
    """Return the result of an exact solve, with every solution verified.

    `found`: answers from the best on. Raises RuntimeError if a solution is wrong, which is a bug of the solver.
    """
    first = found[0]
    solutions = tuple(checked(tables, f) for f in found if f.layers is not None)
    if not solutions or first.layers is None:
        status: Literal["infeasible", "unknown"] = "infeasible" if first.proven else "unknown"
        bound = None if status == "infeasible" or first.bound is None else float(first.bound)
        return SearchResult(
            search=tables.search.name, status=status, bound=bound, solver=solver, proved_by=first.proved_by
        )
    value = Child(tables, first.layers, first.batches).linear(tables.search.objective)
    reached = relative_gap(value, first.bound)
    optimal = all(f.proven for f in found) or (len(found) == 1 and reached is not None and reached <= gap)
    return SearchResult(
        search=tables.search.name,
        status="optimal" if optimal else "feasible",
        objective=solutions[0].objective,
        bound=None if first.bound is None else float(first.bound),
        gap=reached,
        solver=solver,
        found_by=first.found_by,
        proved_by=first.proved_by,
        solutions=solutions,
        parent_metrics=parent_metrics(tables, first),
    )


def heuristic_result(tables: Tables, found: Sequence[Found], solver: str, proven: bool) -> SearchResult:
    """Return the result of a baseline: "feasible" if it found an answer, else "infeasible" if `proven`, else "unknown"."""
    solutions = tuple(checked(tables, f) for f in found if f.layers is not None)
    if not solutions:
        return SearchResult(
            search=tables.search.name, status="infeasible" if proven else "unknown", solver=solver
        )
    return SearchResult(
        search=tables.search.name,
        status="feasible",
        objective=solutions[0].objective,
        solver=solver,
        solutions=solutions,
        parent_metrics=parent_metrics(tables, found[0]),
    )


def checked(tables: Tables, found: Found) -> Solution:
    """Return the solution of an answer, verified. Raises RuntimeError if it is wrong.

    A search without one of its requirements may have batches of scenarios that it no longer mentions: these are left out.
    """
    assert found.layers is not None
    mentioned = {term.scenario for term in terms_of(tables.search) if isinstance(term, MetricTerm)}
    batches = {name: found.batches[name] for name in tables.scenarios if name in mentioned}
    solution = solution_of(tables, found.layers, batches)
    inputs = tables.program, tables.search, tables.costs, tables.scores
    violations = verify(*inputs, solution, found.value)
    if violations:
        raise RuntimeError("the solver's answer is wrong: " + "; ".join(v.message for v in violations))
    return solution


def parent_metrics(tables: Tables, found: Found) -> dict[str, float]:
    """Return the parent's metrics at the batches of an answer."""
    assert found.layers is not None
    batches, _ = report(Child(tables, found.layers, found.batches))
    return report(Child(tables, found.layers, batches).parent())[1]


def relative_gap(value: Fraction, bound: Fraction | None) -> float | None:
    """Return |value - bound| / |value|: 0 if they are equal, None if there is no bound or the gap is not finite."""
    if bound is None:
        return None
    if value == bound:
        return 0.0
    gap = float(abs(value - bound) / abs(value)) if value else math.inf
    return gap if math.isfinite(gap) else None


# ---------------------------------------------------------------- any child


@dataclass(frozen=True, slots=True)
class RequirementFigures:
    """One `require` evaluated for a child. `value` and `bound` are in base units; None for a logical requirement."""

    line: int
    text: str
    holds: bool
    value: Fraction | None = None
    bound: Fraction | None = None


@dataclass(frozen=True, slots=True)
class ChildFigures:
    """A child evaluated at its batches. `fits` is False if a scenario's batch is `auto` and no batch fits into memory."""

    layers: tuple[LayerAssignment, ...]
    batches: dict[str, int]
    objective: Fraction
    metrics: dict[str, Fraction]
    requirements: tuple[RequirementFigures, ...]
    fits: bool

    @property
    def feasible(self) -> bool:
        """True if the child fits into memory and meets every requirement."""
        return self.fits and all(requirement.holds for requirement in self.requirements)


def child_figures(
    tables: Tables, layers: Sequence[LayerAssignment], batches: Mapping[str, int] | None = None
) -> ChildFigures:
    """Evaluate a child at the best batches it may have.

    Batches at which every requirement holds come first, then a better objective, then better preferences. Of equally good
    ones, the smallest are taken, as the solver does.

    Args:
        tables: The search with its costs and scores.
        layers: One choice for each layer.
        batches: Batches to use, by scenario; the others are chosen.

    Raises:
        ValueError: A layer has a choice that the space does not offer, or a scenario does not have such a batch.
    """
    chosen = tuple(layers)
    _check_layers(tables, chosen)
    given = dict(batches or {})
    _check_batches(tables, given)
    tried = [Child(tables, chosen, each) for each in _batch_choices(tables, chosen, given)]
    best = min(tried, key=_rank) if len(tried) > 1 else tried[0]
    return _figures(best)


def batches_of(
    tables: Tables, layers: Sequence[LayerAssignment], first: Mapping[str, int]
) -> Iterator[dict[str, int]]:
    """Yield the batches that a child may have, by scenario, those of `first` before others.

    An `auto` batch is the largest that fits; if none fits, nothing is yielded.
    """
    choices: list[list[int]] = []
    for name in tables.scenarios:
        if tables.at(name, first[name]).capacity_bytes is not None:
            batch = tables.largest_batch(name, layers)
            choices.append([batch] if batch else [])
        else:
            others = [batch for batch in tables.candidates(name) if batch != first[name]]
            choices.append([first[name], *others])
    for batches in product(*choices):
        yield dict(zip(tables.scenarios, batches, strict=True))


def _batch_choices(
    tables: Tables, layers: Sequence[LayerAssignment], given: Mapping[str, int]
) -> list[dict[str, int]]:
    """Return the batches that a child may have and that agree with `given`; if it fits at none, the smallest ones."""
    smallest = {name: tables.candidates(name)[0] for name in tables.scenarios}
    found = [b for b in batches_of(tables, layers, smallest) if b.items() >= given.items()]
    return found or [{**smallest, **given}]


def _rank(child: Child) -> tuple[bool, list[Fraction]]:
    """Sort key, less is better: infeasible children last, then the objective, then the preferences in their order."""
    search = child.tables.search
    goals = [(search.objective, search.sense), *((p.goal, p.sense) for p in search.preferences)]
    feasible = _fits(child) and all(map(child.meets, search.requirements))
    return not feasible, [child.linear(g) if sense == "minimize" else -child.linear(g) for g, sense in goals]


def _fits(child: Child) -> bool:
    return all(map(child.fits, child.tables.scenarios))


def _figures(child: Child) -> ChildFigures:
    tables = child.tables
    batches, metrics = exact_report(child)
    return ChildFigures(
        layers=child.layers,
        batches=batches,
        objective=child.linear(tables.search.objective),
        metrics=metrics,
        requirements=tuple(_requirement(child, each) for each in tables.search.requirements),
        fits=_fits(child),
    )


def _requirement(child: Child, requirement: Requirement) -> RequirementFigures:
    line, text, holds = requirement.where.line, written(requirement), child.meets(requirement)
    match requirement:
        case LinearRequirement():
            value, bound = child.linear(requirement.left), child.bound_of(requirement)
            return RequirementFigures(line, text, holds, value, bound)
        case LogicRequirement():
            return RequirementFigures(line, text, holds)
        case _:
            assert_never(requirement)


def _check_layers(tables: Tables, layers: Sequence[LayerAssignment]) -> None:
    if len(layers) != len(tables.layers):
        raise ValueError(f"{len(layers)} layers are chosen, the parent has {len(tables.layers)}")
    for index, (chosen, choice) in enumerate(zip(layers, tables.layers, strict=True)):
        for part, name, offered in (
            ("attention", chosen.attention, choice.attention),
            ("ffn", chosen.ffn, choice.ffn),
        ):
            names = [a.name for a in offered]
            if name not in names:
                raise ValueError(
                    f"layer {index} may not have {part} {name!r}; it may have {', '.join(names)}"
                )


def _check_batches(tables: Tables, given: Mapping[str, int]) -> None:
    for name, batch in given.items():
        if name not in tables.scenarios:
            known = ", ".join(tables.scenarios) or "none"
            raise ValueError(f"the search mentions no scenario {name!r}; it mentions {known}")
        if batch not in tables.candidates(name):
            raise ValueError(f"scenario {name!r} has no batch {batch}")
