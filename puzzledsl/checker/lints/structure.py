"""Lint of formulas that all children meet, or none, and the reachable values of `runs`, `longest` and `distinct`.

Layers choose independently, so the values of each layer determine those of the child. Runs come from a walk over the
layers, the most distinct values from a matching of values to layers (Kuhn 1955), the fewest from a smallest hitting set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from typing import assert_never

from puzzledsl.ir import logic, nodes
from puzzledsl.ir.logic import Pair, Truth, layers_of
from puzzledsl.ir.tables import EndsAssignment

Figure = nodes.Runs | nodes.Longest | nodes.Distinct
"""A figure of the whole child that is bounded."""
MAX_TRIES = 20_000
"""Sets of values that the search for the fewest looks at; beyond them no bound is judged."""


class Layerwise:
    """Possible truths of formulas over a space whose layers choose independently."""

    def __init__(self, layers: Sequence[nodes.LayerChoice], ends: nodes.EndsChoice | None = None) -> None:
        self.layers: Sequence[nodes.LayerChoice | nodes.EndsChoice] = (
            layers if ends is None else (*layers, ends)
        )
        self._known: dict[tuple[int, nodes.Logic], Truth] = {}

    def of_one_layer(self, formula: nodes.Logic) -> Truth:
        """The truth of a formula about one layer, or about none; None if it can be both."""
        layer = min(layers_of(formula), default=0)
        choice = self.layers[layer]
        key = id(choice), formula
        if key not in self._known:
            found = (logic.holds(formula, {layer: pair}) for pair in _pairs(choice))
            first = next(found, None)
            self._known[key] = first if all(truth == first for truth in found) else None
        return self._known[key]

    def verdict(self, formula: nodes.Logic) -> Truth:
        """True for a formula that every child meets, False for one that none does; None where this cannot be told."""
        if len(layers_of(formula)) <= 1:
            return self.of_one_layer(formula)
        match formula:
            case nodes.Not(operand=operand):
                return logic.negated(self.verdict(operand))
            case nodes.And(operands=operands):
                return logic.all_of([*map(self.verdict, operands)])
            case nodes.Or(operands=operands):
                return logic.negated(logic.all_of([logic.negated(self.verdict(o)) for o in operands]))
            case nodes.Implies(condition=condition, consequence=consequence):
                both = [self.verdict(condition), logic.negated(self.verdict(consequence))]
                return logic.negated(logic.all_of(both))
            case nodes.Runs() | nodes.Longest() | nodes.Distinct():
                ends = self.reachable(formula)
                return None if ends is None else logic.within(ends, formula.at_least, formula.at_most)
        return None

    def reachable(self, figure: Figure) -> tuple[int, int] | None:
        """The least and the most that a figure comes to, both reached; None where this cannot be told."""
        match figure:
            case nodes.Runs(statements=statements):
                return logic.runs([*map(self.of_one_layer, statements)])
            case nodes.Longest(statements=statements):
                return logic.longest([*map(self.of_one_layer, statements)])
            case nodes.Distinct(taken=taken):
                values = self._values(taken)
                return None if values is None else distinct_ends(values)
            case _:
                assert_never(figure)

    def _values(self, taken: Sequence[nodes.Taken]) -> list[frozenset[str]] | None:
        """The values that each layer can take; None where a layer takes more than one of them at once."""
        layers = [layer for each in taken for layer in each.layers]
        if len(layers) > len(set(layers)):
            return None
        constant = [frozenset(each.values[0]) for each in taken if not each.layers]
        by_layer = [
            frozenset(logic.taken_by(each, pair) for pair in _pairs(self.layers[layer]))
            for each in taken
            for layer in each.layers
        ]
        return by_layer + constant


def _pairs(choice: nodes.LayerChoice | nodes.EndsChoice) -> Iterator[logic.AnyChoice]:
    if isinstance(choice, nodes.EndsChoice):
        yield from map(EndsAssignment.of, choice.offered)
        return
    yield from (Pair(a.name, f.name) for a in choice.attention for f in choice.ffn)


def distinct_ends(values: Sequence[frozenset[str]]) -> tuple[int, int] | None:
    """The fewest and the most different values of layers that each take one; None where the fewest take too long."""
    fewest = _smallest_hitting_set(sorted(set(values), key=sorted))
    return None if fewest is None else (fewest, _largest_matching(values))


def _smallest_hitting_set(sets: Sequence[frozenset[str]]) -> int | None:
    """The size of the smallest set of values with one of each of `sets`."""
    minimal = [s for s in sets if not any(other < s for other in sets)]
    known = sorted(frozenset().union(*minimal))
    tries = (chosen for size in range(len(minimal) + 1) for chosen in combinations(known, size))
    for chosen in islice(tries, MAX_TRIES):
        if all(s.intersection(chosen) for s in minimal):
            return len(chosen)
    return None


def _largest_matching(values: Sequence[frozenset[str]]) -> int:
    """The most values that can be taken at once: Kuhn's augmenting paths from layers to values."""
    owner: dict[str, int] = {}
    wanted = len(frozenset().union(*values))
    for layer in range(len(values)):
        if len(owner) == wanted:
            break
        _augment(layer, values, owner)
    return len(owner)


def _augment(layer: int, values: Sequence[frozenset[str]], owner: dict[str, int]) -> None:
    """Give a layer a value, where others can move to make room: breadth first, so that no path is too deep."""
    came_from: dict[str, int] = {}
    queue = [layer]
    for here in queue:
        for value in sorted(values[here] - came_from.keys()):
            came_from[value] = here
            if value in owner:
                queue.append(owner[value])
                continue
            held = {holder: taken for taken, holder in owner.items()}
            while True:  # each layer on the path takes the value that it was reached by
                owner[value] = came_from[value]
                if owner[value] == layer:
                    return
                value = held[owner[value]]
