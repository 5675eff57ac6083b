"""Which tables a search reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from puzzledsl.ir.nodes import (
    Linear,
    LinearRequirement,
    MetricTerm,
    Program,
    ScoreTerm,
    Search,
    Term,
    Where,
)


@dataclass(frozen=True, slots=True)
class Needed:
    """Names of the score tables and of the scenarios that a search's goal, requirements and preferences mention."""

    scores: frozenset[str]
    scenarios: frozenset[str]


def needed(program: Program, search: str) -> Needed:
    """What must be there before `search` can be solved. Raises KeyError for a search that is not declared."""
    terms = list(terms_of(program.searches[search]))
    return Needed(
        scores=frozenset(t.score for t in terms if isinstance(t, ScoreTerm)),
        scenarios=frozenset(t.scenario for t in terms if isinstance(t, MetricTerm)),
    )


def terms_of(search: Search) -> Iterator[Term]:
    """Every term of a search, in the order written."""
    for linear in linears_of(search):
        for weighted in linear.terms:
            yield weighted.term


def linears_of(search: Search) -> Iterator[Linear]:
    """Every linear expression of a search: the objective, then requirements, then preferences."""
    for linear, _ in placed_linears(search):
        yield linear


def placed_linears(search: Search) -> Iterator[tuple[Linear, Where]]:
    """Every linear expression of a search and where it is written (the objective: at the search's name)."""
    yield search.objective, search.where
    for requirement in search.requirements:
        if isinstance(requirement, LinearRequirement):
            yield requirement.left, requirement.where
    for preference in search.preferences:
        yield preference.goal, preference.where
