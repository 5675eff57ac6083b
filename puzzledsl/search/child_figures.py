"""Exact metrics of any child of a search, and both sides of each requirement, as fractions in base units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import assert_never

from puzzledsl.ir.nodes import LinearRequirement, LogicRequirement, Requirement
from puzzledsl.ir.search_nodes import written
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.metrics import Child, exact_report
from puzzledsl.search.tables import Tables

Layers = Sequence[LayerAssignment]


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


def child_figures(tables: Tables, layers: Layers, batches: Mapping[str, int] | None = None) -> ChildFigures:
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


def batches_of(tables: Tables, layers: Layers, first: Mapping[str, int]) -> Iterator[dict[str, int]]:
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


def _batch_choices(tables: Tables, layers: Layers, given: Mapping[str, int]) -> list[dict[str, int]]:
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


def _check_layers(tables: Tables, layers: Layers) -> None:
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
