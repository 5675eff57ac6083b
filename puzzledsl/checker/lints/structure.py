"""Lint of formulas that all children meet, or none, and the reachable values of `runs`, `longest` and `distinct`.

Layers choose independently, so the values of each layer determine those of the child. Runs come from a walk over the
layers, the most distinct values from a matching of values to layers (Kuhn 1955), the fewest from a smallest hitting set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, islice
from typing import assert_never

from puzzledsl.checker.expressions.layer_tables import is_true
from puzzledsl.ir import nodes
from puzzledsl.ir.structures import Structure, collect_layers

Outcomes = frozenset[bool]
MAX_TRIES = 20_000
"""Sets of values that the search for the fewest looks at; beyond them no bound is judged."""


class Layerwise:
    """Possible outcomes of formulas over a space whose layers choose independently."""

    def __init__(self, layers: Sequence[nodes.LayerChoice]) -> None:
        self.layers = layers
        self._known: dict[tuple[int, nodes.Logic], Outcomes] = {}

    def outcomes(self, logic: nodes.Logic) -> Outcomes:
        """The truths that a formula about one layer, or about none, can have."""
        layers: set[int] = set()
        collect_layers(logic, layers)
        if len(layers) > 1:
            raise ValueError("a formula about several layers")
        choice = self.layers[layers.pop()] if layers else self.layers[0]
        if isinstance(logic, nodes.Is):
            own = choice.attention if logic.sub_block == "attention" else choice.ffn
            return frozenset(alternative.name in logic.alternatives for alternative in own)
        key = id(choice), logic
        if key not in self._known:
            self._known[key] = frozenset(
                is_true(logic, a.name, f.name) for a in choice.attention for f in choice.ffn
            )
        return self._known[key]

    def verdict(self, logic: nodes.Logic) -> bool | None:
        """True for a formula that every child meets, False for one that none does; None where this cannot be told."""
        layers: set[int] = set()
        collect_layers(logic, layers)
        if len(layers) <= 1:
            outcomes = self.outcomes(logic)
            return next(iter(outcomes)) if len(outcomes) == 1 else None
        match logic:
            case nodes.Not(operand=operand):
                found = self.verdict(operand)
                return None if found is None else not found
            case nodes.And(operands=operands):
                return _all(map(self.verdict, operands))
            case nodes.Or(operands=operands):
                return _not(_all(_not(self.verdict(o)) for o in operands))
            case nodes.Implies(condition=condition, consequence=consequence):
                return _not(_all([self.verdict(condition), _not(self.verdict(consequence))]))
            case nodes.Cardinality() | nodes.Is():
                return None
            case _:
                assert_never(logic)

    # ------------------------------------------------------------ figures of the whole child

    def reachable(self, structure: Structure) -> tuple[int, int] | None:
        """The least and the most that a structure's figure comes to, both reached; None where this cannot be told."""
        match structure.function:
            case "runs":
                return _runs([self.outcomes(statement) for statement in structure.statements])
            case "longest":
                outcomes = [self.outcomes(statement) for statement in structure.statements]
                forced, possible = ([wanted(o) for o in outcomes] for wanted in (_is_forced, _is_possible))
                return _longest(forced), _longest(possible)
            case "distinct":
                values = self._values(structure.statements)
                return None if values is None else distinct_ends(values)
            case _:
                assert_never(structure.function)

    def _values(self, statements: Sequence[nodes.Logic]) -> list[frozenset[int]] | None:
        """The values that each layer can take; None where a layer takes more than one of them at once."""
        leaves: dict[int, list[tuple[int, nodes.Logic]]] = {}
        constant: list[frozenset[int]] = []
        for value, statement in enumerate(statements):
            assert isinstance(statement, nodes.Or)
            for operand in statement.operands:
                layers: set[int] = set()
                collect_layers(operand, layers)
                if not layers:
                    constant.append(frozenset([value]))
                    continue
                if len(layers) > 1:
                    return None
                leaves.setdefault(layers.pop(), []).append((value, operand))
        found = [self._of_layer(layer, taken) for layer, taken in leaves.items()]
        known = [values for values in found if values is not None]
        return [*known, *constant] if len(known) == len(found) else None

    def _of_layer(self, layer: int, taken: Sequence[tuple[int, nodes.Logic]]) -> frozenset[int] | None:
        choice = self.layers[layer]
        values: set[int] = set()
        for pair in ((a.name, f.name) for a in choice.attention for f in choice.ffn):
            here = [value for value, logic in taken if is_true(logic, *pair)]
            if len(here) != 1:
                return None
            values.update(here)
        return frozenset(values)


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _all(values: Iterable[bool | None]) -> bool | None:
    found = set(values)
    return False if False in found else None if None in found else True


# ---------------------------------------------------------------- runs


def _runs(outcomes: Sequence[Outcomes]) -> tuple[int, int]:
    """The fewest and the most runs, by the truth at the last layer."""
    ends: dict[bool, tuple[int, int]] = {False: (0, 0)}
    for possible in outcomes:
        following: dict[bool, tuple[int, int]] = {}
        for here in possible:
            ways = [
                (least + (here and not before), most + (here and not before))
                for before, (least, most) in ends.items()
            ]
            following[here] = min(way[0] for way in ways), max(way[1] for way in ways)
        ends = following
    return min(end[0] for end in ends.values()), max(end[1] for end in ends.values())


def _is_forced(outcomes: Outcomes) -> bool:
    return outcomes == {True}


def _is_possible(outcomes: Outcomes) -> bool:
    return True in outcomes


def _longest(held: Sequence[bool]) -> int:
    best = length = 0
    for holds in held:
        length = length + 1 if holds else 0
        best = max(best, length)
    return best


# ---------------------------------------------------------------- different values


def distinct_ends(values: Sequence[frozenset[int]]) -> tuple[int, int] | None:
    """The fewest and the most different values of layers that each take one; None where the fewest take too long."""
    fewest = _smallest_hitting_set(sorted(set(values), key=sorted))
    return None if fewest is None else (fewest, _largest_matching(values))


def _smallest_hitting_set(sets: Sequence[frozenset[int]]) -> int | None:
    """The size of the smallest set of values with one of each of `sets`."""
    minimal = [s for s in sets if not any(other < s for other in sets)]
    known = sorted(frozenset().union(*minimal))
    tries = (chosen for size in range(len(minimal) + 1) for chosen in combinations(known, size))
    for chosen in islice(tries, MAX_TRIES):
        if all(s.intersection(chosen) for s in minimal):
            return len(chosen)
    return None


def _largest_matching(values: Sequence[frozenset[int]]) -> int:
    """The most values that can be taken at once: Kuhn's augmenting paths from layers to values."""
    owner: dict[int, int] = {}
    wanted = len(frozenset().union(*values))
    for layer in range(len(values)):
        if len(owner) == wanted:
            break
        _augment(layer, values, owner)
    return len(owner)


def _augment(layer: int, values: Sequence[frozenset[int]], owner: dict[int, int]) -> None:
    """Give a layer a value, where others can move to make room: breadth first, so that no path is too deep."""
    came_from: dict[int, int] = {}
    frontier = [layer]
    while frontier:
        here = frontier.pop(0)
        for value in sorted(values[here] - came_from.keys()):
            came_from[value] = here
            if value not in owner:
                _hand_on(value, layer, came_from, owner)
                return
            frontier.append(owner[value])


def _hand_on(value: int, layer: int, came_from: Mapping[int, int], owner: dict[int, int]) -> None:
    """Turn an augmenting path round: each layer on it takes the value it was left by."""
    held = {holder: taken for taken, holder in owner.items()}
    while True:
        here = came_from[value]
        before = held.get(here)
        owner[value] = here
        if here == layer or before is None:
            return
        value = before
