"""Differences between two versions of a search. A requirement whose bound alone differs counts as changed, not replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from puzzledsl.changes import words
from puzzledsl.changes.common import Common, meaning
from puzzledsl.changes.model import Detail
from puzzledsl.ir import nodes
from puzzledsl.ir.logic import unbounded

MANY = 3
"""Instances of one line in a `for` beyond which they are reported together."""


def search_details(old: nodes.Search, new: nodes.Search, common: Common) -> Iterator[Detail]:
    """Yield the goal, requirements and preferences that differ over the alternatives that both spaces have."""
    before, after = (f"{s.sense} {words.linear(s.objective)}" for s in (old, new))
    if (old.sense, meaning(old.objective, common)) != (new.sense, meaning(new.objective, common)):
        yield _told_apart("goal", before, after)
    yield from _Requirements(common).details(old.requirements, new.requirements)
    preferences = [[(p.sense, meaning(p.goal, common)) for p in s.preferences] for s in (old, new)]
    if preferences[0] != preferences[1]:
        texts = [
            ", then ".join(f"{p.sense} {words.linear(p.goal)}" for p in s.preferences) for s in (old, new)
        ]
        yield _told_apart("prefer", *texts)


def _told_apart(what: str, before: str, after: str) -> Detail:
    """Return a detail; mark texts that are equal because only figures inside a table differ."""
    return Detail(what, before, f"{after} (with other figures)" if before == after else after)


class _Requirements:
    """Comparison of requirements by meaning over the alternatives `common`."""

    def __init__(self, common: Common) -> None:
        self.common = common

    def details(self, old: Sequence[nodes.Requirement], new: Sequence[nodes.Requirement]) -> Iterator[Detail]:
        gone, come = self._left_over(old, new), self._left_over(new, old)
        for requirement in list(gone):
            about = self._about(requirement)
            partner = next((r for r in come if about and self._about(r) == about), None)
            if partner is not None:
                gone.remove(requirement)
                come.remove(partner)
                yield _told_apart("require", words.requirement(requirement), words.requirement(partner))
        yield from (Detail("require", old=text) for text in _told(gone))
        yield from (Detail("require", new=text) for text in _told(come))

    def _left_over(
        self, some: Sequence[nodes.Requirement], others: Sequence[nodes.Requirement]
    ) -> list[nodes.Requirement]:
        """Return the requirements that the other side lacks, as a multiset difference."""
        rest = Counter(meaning(other, self.common) for other in others)
        left: list[nodes.Requirement] = []
        for requirement in some:
            text = meaning(requirement, self.common)
            if rest[text] > 0:
                rest[text] -= 1
            else:
                left.append(requirement)
        return left

    def _about(self, requirement: nodes.Requirement) -> str:
        """Return the bounded quantity and the direction of the bound as a key; empty for a statement about layers."""
        if isinstance(requirement, nodes.LogicRequirement):
            figure = requirement.formula
            if not isinstance(figure, nodes.Runs | nodes.Longest | nodes.Distinct):
                return ""
            return meaning(unbounded(figure), self.common)
        return f"{meaning(requirement.left, self.common)} {requirement.op[0]}"


def _told(requirements: Sequence[nodes.Requirement]) -> Iterator[str]:
    """Yield one text per requirement; more than MANY instances of one source line become one text."""
    lines: dict[str, list[nodes.Requirement]] = {}
    for requirement in requirements:
        lines.setdefault(f"{requirement.where.file}:{requirement.where.line}", []).append(requirement)
    for group in lines.values():
        if len(group) > MANY:
            yield f"{group[0].where.text} ({len(group)} times)"
        else:
            yield from map(words.requirement, group)
