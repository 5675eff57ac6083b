"""Answers that meet every requirement exactly, verified, with their metrics; and the figures of any child that a user names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

from puzzledsl.costs.simulation import simulations
from puzzledsl.ir.nodes import LinearRequirement
from puzzledsl.ir.references import places_of
from puzzledsl.ir.search_nodes import written
from puzzledsl.ir.tables import Assignment, SearchResult, Solution, ends_of_child, layers_of_child
from puzzledsl.search.batches import Floors, Found, best_of
from puzzledsl.search.problem.instance import Effort
from puzzledsl.search.problem.metrics import Box, Child, Layers, report
from puzzledsl.search.problem.problem import Problems
from puzzledsl.search.tables import Tables
from puzzledsl.search.verify import verify

MAX_ROUNDING_CUTS = 100


def several(problems: Problems, number: int, apart: int, effort: Effort) -> list[Found]:
    """Return up to `number` answers, best first, at least `apart` layers apart; one without layers if time ends or none exist."""
    results: list[Found] = []
    floors: Floors = {}
    for left in reversed(range(number)):
        found = best_meeting_all(problems, effort, floors)
        results.append(found)
        if found.layers is None or not left:
            break
        problems = _cut_off(problems, found.layers, max(1, apart))
    is_last = len(results) > 1 and results[-1].layers is None and results[-1].proven
    return results[:-1] if is_last else results


def best_meeting_all(problems: Problems, effort: Effort, floors: Floors | None = None) -> Found:
    """Return the best answer that meets every requirement exactly; without layers if none is found in MAX_ROUNDING_CUTS tries."""
    known, tables = {} if floors is None else floors, problems.tables
    for _ in range(MAX_ROUNDING_CUTS):
        found = best_of(problems, effort, known)
        if found.layers is None or all(row.exact for row in problems.at(Box.at(found.batches)).rows):
            return found
        if Child(tables, found.layers, found.batches).is_right():
            return found
        problems = _cut_off(problems, found.layers, 1)
    return replace(found, layers=None, proven=False)


def _cut_off(problems: Problems, layers: tuple[Assignment, ...], apart: int) -> Problems:
    """Return the problems without the models that differ from `layers` in fewer than `apart` layers."""
    return problems.changed(lambda problem, _: problem.with_rows(problem.apart_from(layers, apart)))


def solution_of(tables: Tables, layers: Layers, batches: dict[str, int]) -> Solution:
    """Return the solution of chosen layers and batches with its objective and all metrics. It is not verified here."""
    child = Child(tables, tuple(layers), batches)
    all_batches, metrics = report(child)
    return Solution(
        objective=float(child.linear(tables.search.objective)),
        layers=child.layers,
        batches=all_batches,
        metrics={name: float(value) for name, value in metrics.items()},
    )


def result_of(tables: Tables, found: Sequence[Found], gap: float) -> SearchResult:
    """Return a search's result from its answers, best first. `gap`: accepted. Raises RuntimeError if an answer is wrong."""
    first = found[0]
    solutions = tuple(checked(tables, f) for f in found if f.layers is not None)
    result = SearchResult(
        search=tables.search.name,
        status="infeasible" if first.proven else "unknown",
        bound=None if first.bound is None else float(first.bound),
        proved_by=first.proved_by,
    )
    if first.layers is None:
        return result.model_copy(update={"bound": None}) if first.proven else result
    child = Child(tables, first.layers, first.batches)
    value, bound = child.linear(tables.search.objective), first.bound
    reached = 0.0 if value == bound else None
    if bound is not None and value and value != bound:
        reached = float(abs(value - bound) / abs(value))
    optimal = all(f.proven for f in found) or (len(found) == 1 and reached is not None and reached <= gap)
    parent = replace(child, batches=report(child)[0]).parent()
    answer = {
        "status": "optimal" if optimal else "feasible",
        "objective": solutions[0].objective,
        "gap": reached,
        "found_by": first.found_by,
        "solutions": solutions,
        "parent_metrics": {name: float(value) for name, value in report(parent)[1].items()},
    }
    return result.model_copy(update=answer)


def checked(tables: Tables, found: Found) -> Solution:
    """Return an answer's verified solution, with the batches that the search mentions. Raises RuntimeError if it is wrong."""
    assert found.layers is not None
    mentioned = places_of(tables.search)
    batches = {name: found.batches[name] for name in tables.scenarios if name in mentioned}
    solution = solution_of(tables, found.layers, batches)
    inputs = tables.program, tables.search, tables.costs, tables.scores
    violations = verify(*inputs, solution, found.value)
    if violations:
        raise RuntimeError("the solver's answer is wrong: " + "; ".join(v.message for v in violations))
    served = simulations(tables.costs.scenarios, tables.program, found.layers)
    return solution.model_copy(update={"simulated": served}) if served else solution


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
    """A child at its batches. `fits`: False if one at `auto` is not the largest that fits, or one of traffic not its own."""

    layers: tuple[Assignment, ...]
    batches: dict[str, int]
    objective: Fraction
    metrics: dict[str, Fraction]
    requirements: tuple[RequirementFigures, ...]
    fits: bool

    @property
    def feasible(self) -> bool:
        """True if the child's batches fit (`fits`) and it meets every requirement."""
        return self.fits and all(requirement.holds for requirement in self.requirements)


def child_figures(tables: Tables, layers: Layers, batches: Mapping[str, int] | None = None) -> ChildFigures:
    """Evaluate a child at the given batches; batches that are not given are chosen as the solver does.

    Raises ValueError for a wrong number of layers, a choice that the space does not offer, or an unknown scenario or batch.
    """
    given, chosen = dict(batches or {}), tuple(layers)
    _check(tables, chosen, given)
    if tables.ends is not None and len(chosen) == len(tables.layers):
        chosen = (*chosen, ends_of_child(chosen))
    smallest = {name: tables.candidates(name)[0] for name in tables.scenarios}
    agreeing = [each for each in batches_of(tables, chosen, smallest) if each.items() >= given.items()]
    tried = [Child(tables, chosen, each) for each in agreeing or [{**smallest, **given}]]
    goals = [(tables.search.objective, tables.search.sense)]
    goals += [(preference.goal, preference.sense) for preference in tables.search.preferences]

    def rank(child: Child) -> tuple[bool, list[Fraction]]:
        values = [child.linear(g) if sense == "minimize" else -child.linear(g) for g, sense in goals]
        return not child.is_right(), values

    best = min(tried, key=rank) if len(tried) > 1 else tried[0]
    figures = []
    for each in tables.search.requirements:
        line, text, holds = each.where.line, written(each), best.meets(each)
        sides = (best.linear(each.left), best.bound_of(each)) if isinstance(each, LinearRequirement) else ()
        figures.append(RequirementFigures(line, text, holds, *sides))
    all_batches, metrics = report(best)
    return ChildFigures(
        layers=best.layers,
        batches=all_batches,
        objective=best.linear(tables.search.objective),
        metrics=metrics,
        requirements=tuple(figures),
        fits=all(map(best.fits, tables.scenarios)),
    )


def batches_of(tables: Tables, layers: Layers, first: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yield batches a child may have, `first`'s before others; at `auto` or under traffic its own alone, nothing if none fits."""
    choices: list[list[int]] = []
    for name in tables.scenarios:
        if tables.at(name, first[name]).is_own:
            batch = tables.largest_batch(name, layers)
            choices.append([batch] if batch else [])
        else:
            others = [batch for batch in tables.candidates(name) if batch != first[name]]
            choices.append([first[name], *others])
    for batches in product(*choices):
        yield dict(zip(tables.scenarios, batches, strict=True))


def _check(tables: Tables, layers: Layers, batches: Mapping[str, int]) -> None:
    """Raise ValueError for a wrong number of layers, choices that the space does not offer, or unknown scenarios or batches."""
    chosen_layers = layers_of_child(layers)
    if len(chosen_layers) != len(tables.layers):
        raise ValueError(f"{len(chosen_layers)} layers are chosen, the parent has {len(tables.layers)}")
    whole = chosen_layers if tables.ends is None else (*chosen_layers, ends_of_child(layers))
    for index, (choice, offered) in enumerate(zip(whole, tables.offered, strict=True)):
        for (site, name), names in zip(choice, offered, strict=True):
            if name not in names:
                verb, part = ("have", f" {site}") if index < len(chosen_layers) else ("be", "")
                what = f"layer {index}" if part else f"the {site}"
                raise ValueError(f"{what} may not {verb}{part} {name!r}; it may {verb} {', '.join(names)}")
    for scenario, batch in batches.items():
        if scenario not in tables.scenarios:
            known = ", ".join(tables.scenarios) or "none"
            raise ValueError(f"the search mentions no scenario {scenario!r}; it mentions {known}")
        if batch not in tables.candidates(scenario):
            raise ValueError(f"scenario {scenario!r} has no batch {batch}")
