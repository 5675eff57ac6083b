"""Sensitivity of a search to its requirements: searches with one statement's bounds moved a little or dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from puzzledsl.ir.nodes import And, CountTerm, LinearRequirement, LogicRequirement, Requirement, Search
from puzzledsl.search.infeasible.explain import Group, groups_of

SHARE = Fraction(1, 100)
Kind = Literal["tighter", "looser", "up", "down", "without"]


@dataclass(frozen=True, slots=True)
class Moved:
    """One change of a statement. `by`: size of the move, as text. `bound`: new bound, if the statement is one requirement."""

    kind: Kind
    by: str = ""
    bound: float | None = None


def moves_of(search: Search) -> Iterator[tuple[Group, list[tuple[Moved, Search]]]]:
    """Yield each statement of a search, as the numbers of its requirements, and the searches with it moved or dropped."""
    for group in groups_of(search.requirements):
        yield group, [*_moves(search, group)]


def _moves(search: Search, group: Group) -> Iterator[tuple[Moved, Search]]:
    own = [search.requirements[place] for place in group]
    linear = [requirement for requirement in own if isinstance(requirement, LinearRequirement)]
    if len(linear) == len(own) and all(_bound(r) or _counts(r) for r in linear):
        by = "1" if all(map(_counts, linear)) else f"{float(SHARE * 100):g} %"
        ways: tuple[tuple[Kind, int], ...] = (("tighter", -1), ("looser", 1))
        if any(requirement.op == "==" for requirement in linear):
            ways = (("up", 1), ("down", -1))
        for kind, sign in ways:
            moved = [_moved(requirement, sign) for requirement in linear]
            bound = float(_bound(moved[0])) if len(moved) == 1 else None
            yield Moved(kind, by, bound), _with(search, group, moved)
    dropped = [LogicRequirement(formula=And(operands=()), where=r.where) for r in own]
    yield Moved("without"), _with(search, group, dropped)


def _bound(requirement: LinearRequirement) -> Fraction:
    """Return a requirement's bound or, if it is relative, its ratio to the parent's value."""
    bound = requirement.bound if requirement.parent_ratio is None else requirement.parent_ratio
    assert bound is not None, "a requirement has a bound or a ratio"
    return bound


def _counts(requirement: LinearRequirement) -> bool:
    """True if a requirement counts layers, so that its bound moves by one."""
    terms = requirement.left.terms
    return requirement.parent_ratio is None and all(isinstance(w.term, CountTerm) for w in terms)


def _moved(requirement: LinearRequirement, sign: int) -> LinearRequirement:
    """Return the requirement with a looser bound for a positive sign, a tighter one for a negative; "==" moves up or down."""
    bound = _bound(requirement)
    step = Fraction(1) if _counts(requirement) else abs(bound) * SHARE
    if requirement.op in (">=", ">"):
        sign = -sign
    field = "bound" if requirement.parent_ratio is None else "parent_ratio"
    return requirement.model_copy(update={field: bound + sign * step})


def _with(search: Search, group: Group, moved: Sequence[Requirement]) -> Search:
    requirements: list[Requirement] = list(search.requirements)
    for place, requirement in zip(group, moved, strict=True):
        requirements[place] = requirement
    return search.model_copy(update={"requirements": tuple(requirements)})
