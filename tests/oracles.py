"""Slow and obvious answers to check the quick ones against."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import product

from puzzledsl.costs.metrics import fits
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, LayerAssignment, ScoreTable, Solution
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import Tables, tables_of
from puzzledsl.search.verify import Violation, verify

Layers = tuple[LayerAssignment, ...]


def every_choice(tables: Tables) -> Iterator[Layers]:
    """Every choice for all layers, in the order of the space."""
    names = [
        [LayerAssignment(attention=a.name, ffn=f.name) for a, f in product(choice.attention, choice.ffn)]
        for choice in tables.layers
    ]
    yield from product(*names)


def all_children(tables: Tables) -> Iterator[Child]:
    """Every child at every combination of batches, in the order of the space, smallest batches first."""
    for batches in tables.batch_choices():
        for layers in every_choice(tables):
            yield Child(tables, layers, batches)


def own_batches(tables: Tables, layers: Layers) -> dict[str, int]:
    """Each scenario's largest batch that fits, every one tried; 0 where none does."""
    return {
        name: max((b for b in tables.candidates(name) if fits(tables.at(name, b), layers)), default=0)
        for name in tables.scenarios
    }


def children_at_own_batches(tables: Tables) -> Iterator[Child]:
    """Every child that fits, at its own batches, in the order of the space."""
    for layers in every_choice(tables):
        batches = own_batches(tables, layers)
        if all(batches.values()):
            yield Child(tables, layers, batches)


def acceptable(child: Child, without: frozenset[int] = frozenset()) -> bool:
    """True if a child's batches fit and its requirements hold, but for those in `without`."""
    return all(child.fits(name) for name in child.tables.scenarios) and all(
        child.meets(r) for i, r in enumerate(child.tables.search.requirements) if i not in without
    )


def objective(child: Child) -> Fraction:
    """The exact objective of a child."""
    return child.linear(child.tables.search.objective)


def violations(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable], solution: Solution
) -> list[Violation]:
    """The verifier's complaints about a solution of a search that the program declares."""
    return verify(program, program.searches[search], costs, scores, solution)


def apart(one: Child, other: Child) -> int:
    """In how many layers two children differ."""
    return sum(a != b for a, b in zip(one.layers, other.layers, strict=True))


def best_of(tables: Tables, children: Iterable[Child]) -> list[Child]:
    """The answers of a search: each the best acceptable child that is far enough from those before it.

    By objective, then preferences, then batches, then the order of the space.
    """
    search, picked = tables.search, list[Child]()
    goals = [(search.objective, search.sense), *((p.goal, p.sense) for p in search.preferences)]

    def rank(child: Child) -> tuple[list[Fraction], tuple[int, ...]]:
        ranks = [child.linear(goal) * (1 if sense == "minimize" else -1) for goal, sense in goals]
        return ranks, tuple(child.batches.values())

    for child in sorted(filter(acceptable, children), key=rank):
        if len(picked) < search.solutions and all(apart(child, b) >= max(1, search.apart) for b in picked):
            picked.append(child)
    return picked


def brute_force(
    program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> list[Child]:
    """The answers of a search by trying all children."""
    tables = tables_of(program, search, costs, scores)
    return best_of(tables, all_children(tables))
