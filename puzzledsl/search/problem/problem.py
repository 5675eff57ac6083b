"""Build the integer problems of a search: exact ones for each combination of batches, and relaxations for boxes of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from puzzledsl.ir.nodes import LinearRequirement, MetricTerm, Search
from puzzledsl.ir.references import terms_of
from puzzledsl.ir.tables import Assignment
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.diagram import Diagram, diagram_of
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.normal_form import Formula
from puzzledsl.search.problem.rows import Forms, fitting_rows, goal_of, sides
from puzzledsl.search.tables import Tables


class Builder(Forms):
    """Builds a search's problems and caches the data that they share (coefficients, decision diagrams)."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self._diagrams: dict[tuple[Formula, ...], Diagram | None] = {}

    def all(self) -> Problems:
        """Return the problems of all combinations of batches; they are built on demand."""
        return Problems(self)

    def at(self, where: Mapping[str, int] | Box) -> Problem:
        """Build the problem at given batches, or a relaxation of all problems in a box."""
        search, box = self.tables.search, where if isinstance(where, Box) else Box.at(where)
        formulas = self.formulas()
        local = {formula.requirement for formula in formulas}
        required = (
            self.row(requirement.where.text or f"requirement {index + 1}", *side, index)
            for index, requirement in enumerate(search.requirements)
            if isinstance(requirement, LinearRequirement) and index not in local
            for side in sides(self, requirement, box)
        )
        problem = Problem(
            name=search.name,
            columns=self.columns,
            goal=goal_of(self, search.objective, search.sense, box),
            rows=(*fitting_rows(self, box), *required),
            formulas=formulas,
            batches=box.lows,
            preferences=tuple(goal_of(self, p.goal, p.sense, box) for p in search.preferences),
        )
        return self.with_formulas(problem, formulas)

    def with_formulas(self, problem: Problem, formulas: tuple[Formula, ...]) -> Problem:
        """Return a problem with these formulas, and their decision diagram if it is small. Other batches share it."""
        if formulas not in self._diagrams:
            wanted = formulas or self.columns.period
            self._diagrams[formulas] = diagram_of(self.columns, formulas, quick=True) if wanted else None
        diagram = self._diagrams[formulas]
        is_large = bool(formulas) and diagram is None
        return replace(problem, formulas=formulas, diagram=diagram, is_large=is_large)

    def for_search(self, search: Search) -> Builder:
        """Return a builder of another search over the same space and tables, sharing the coefficients computed so far."""
        other = copy(self)
        other.tables = replace(self.tables, search=search)
        return other

    def for_requirements(self, search: Search) -> Builder:
        """Return the builder of this search with other requirements, without scenarios that only dropped requirements mention."""
        other = self.for_search(search)
        own = search.model_copy(update={"preferences": self.tables.search.preferences})
        mentioned = {term.scenario for term in terms_of(own) if isinstance(term, MetricTerm)}
        scenarios = tuple(name for name in self.tables.scenarios if name in mentioned)
        other.tables = replace(other.tables, scenarios=scenarios)
        return other


Change = Callable[[Problem, Box], Problem]


@dataclass(frozen=True)
class Problems:
    """The problems of a search, built on demand. `changes` are applied to each."""

    builder: Builder
    changes: tuple[Change, ...] = ()

    @property
    def tables(self) -> Tables:
        """The search with its space, cost table and score tables."""
        return self.builder.tables

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """Boxes that together contain all batches, smallest first: listed batches one by one, a profile's as one interval."""
        tables = self.tables
        sides: list[list[tuple[int, int]]] = []
        for name in tables.scenarios:
            if (profile := tables.profiles.get(name)) is None:
                sides.append([(batch, batch) for batch in tables.candidates(name)])
            else:
                sides.append([(max(profile.reach[0], 1), max(profile.reach[1], 1))])
        return tuple(
            Box(tables.scenarios, tuple(low for low, _ in ends), tuple(high for _, high in ends))
            for ends in product(*sides)
        )

    def at(self, box: Box) -> Problem:
        """Build the problem of a box: exact if the box is single, else a relaxation."""
        problem = self.builder.at(box)
        for change in self.changes:
            problem = change(problem, box)
        return problem

    def changed(self, change: Change) -> Problems:
        """Return the problems with a further change applied to each, such as another objective or more rows."""
        return replace(self, changes=(*self.changes, change))

    def box_of(self, layers: Sequence[Assignment], near: Box) -> Box | None:
        """Return the box of the batches that a model runs at: a profile's largest, else of `near`; None if none fits."""
        tables = self.tables
        batches = {
            name: tables.largest_batch(name, layers) if name in tables.profiles else low
            for name, low in near.lows.items()
        }
        return Box.at(batches) if all(batches.values()) else None

    def __iter__(self) -> Iterator[Problem]:
        """Yield the problem of every combination of batches, smallest first; these are many if a scenario has a profile."""
        return (self.at(Box.at(batches)) for batches in self.tables.batch_choices())
