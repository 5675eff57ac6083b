"""Slow and obvious answers to check the quick ones against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, LayerAssignment, ScoreTable, Solution
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import Tables, tables_of
from puzzledsl.search.verify.verify import Violation, verify


@dataclass(frozen=True)
class Best:
    """The best child of all, its exact objective and its batches."""

    child: Child
    objective: Fraction


def all_children(tables: Tables) -> Iterator[Child]:
    """Every child at every combination of batches, in canonical order of the layers, smallest batches first."""
    per_layer = [
        [LayerAssignment(attention=a.name, ffn=f.name) for a, f in product(choice.attention, choice.ffn)]
        for choice in tables.layers
    ]
    for batches in tables.batch_choices():
        for layers in product(*per_layer):
            yield Child(tables, layers, batches)


def acceptable(child: Child, without: frozenset[int] = frozenset()) -> bool:
    """Whether a child's batches fit and its requirements hold, but for those in `without`."""
    return all(child.fits(name) for name in child.tables.scenarios) and all(
        child.meets(r) for i, r in enumerate(child.tables.search.requirements) if i not in without
    )


def violations(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable], solution: Solution
) -> list[Violation]:
    """The verifier's complaints about a solution of a search that the program declares."""
    return verify(program, program.searches[search], costs, scores, solution)


def apart(one: Child, other: Child) -> int:
    """In how many layers two children differ."""
    return sum(a != b for a, b in zip(one.layers, other.layers, strict=True))


def brute_force(
    program: Program,
    search: str,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    before: tuple[Child, ...] = (),
) -> Best | None:
    """The best acceptable child that is far enough from those `before`.

    By objective, then preferences, then batches, then order.
    """
    tables = tables_of(program, search, costs, scores)
    here = tables.search
    goals = [
        (here.objective, here.sense),
        *((p.goal, p.sense) for p in here.preferences),
    ]
    best: tuple[list[Fraction], Child] | None = None
    for child in all_children(tables):
        if not acceptable(child) or any(apart(child, b) < max(1, here.apart) for b in before):
            continue
        key = [child.linear(g) * (1 if sense == "minimize" else -1) for g, sense in goals]
        if best is None or key < best[0]:
            best = (key, child)
    return None if best is None else Best(best[1], best[1].linear(here.objective))
