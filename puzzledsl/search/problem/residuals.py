"""Residual formulas: requirements in normal form, simplified by the choices of some layers.

Formulas are atoms (a layer takes one of a set of columns, the bits of an integer), counts of formulas and sums of whole numbers,
joined by `and` and `or`. Equal formulas have equal numbers (hash consing), so a number can be the state of a decision diagram.
Source: hash-consed residual states as in Bergman, Cire, van Hoeve & Hooker, "Decision Diagrams for Optimization" (2016), ch. 3.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import TypeVar, assert_never

import numpy as np

from puzzledsl.search.problem.columns import Columns, Ints, Mask

Key = TypeVar("Key")
TRUE, FALSE = 0, 1
MOST_SUMS = 1_000  # most sums of the other layers for which numbers of equal effect are merged


@dataclass(frozen=True, slots=True)
class Atom:
    """Atomic formula: the layer takes a column whose bit is set in `mask`."""

    layer: int
    mask: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Conjunction (`every`) or disjunction of formulas, by their numbers, ascending."""

    parts: tuple[int, ...]
    every: bool


@dataclass(frozen=True, slots=True)
class Count:
    """Cardinality constraint: from `least` to `most` of the parts hold. Parts may be repeated."""

    parts: tuple[int, ...]
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Sum:
    """The chosen columns' numbers add up to `least` to `most`. `terms`: (layer, vector in the pool, whose least entry is 0)."""

    terms: tuple[tuple[int, int], ...]
    least: int
    most: int


Node = Atom | Joined | Count | Sum


class Residuals:
    """Pool of formulas. `layers[formula]`: bits of a superset of its layers. `work`: number of parts looked at so far."""

    def __init__(self, columns: Columns) -> None:
        self.nodes: list[Node | None] = [None, None]
        self.layers: list[int] = [0, 0]
        self.work = 0
        self.vectors: list[tuple[int, ...]] = []
        self.columns = columns
        self._numbers: dict[Node, int] = {}
        self._opposites: dict[int, int] = {TRUE: FALSE, FALSE: TRUE}
        self._assigned: dict[tuple[int, int, int], int] = {}
        self._vector_numbers: dict[tuple[int, ...], int] = {}
        self._inside: dict[int, Mask] = {}
        self._full = [(1 << int(size)) - 1 for size in columns.sizes]

    def atom(self, layer: int, mask: int) -> int:
        """Return the formula that the layer takes a column of `mask`."""
        if mask == 0:
            return FALSE
        return TRUE if mask == self._full[layer] else self._number(Atom(layer, mask), 1 << layer)

    def every(self, parts: Iterable[int]) -> int:
        """Return the conjunction of parts; atoms of one layer are intersected."""
        return self._joined(parts, True)

    def some(self, parts: Iterable[int]) -> int:
        """Return the disjunction of parts; atoms of one layer are united."""
        return self._joined(parts, False)

    def count(self, parts: Sequence[int], least: int, most: int) -> int:
        """Return the formula that from `least` to `most` of the parts hold."""
        sure = sum(part == TRUE for part in parts)
        left = tuple(sorted(part for part in parts if part not in (TRUE, FALSE)))
        least, most, number = max(least - sure, 0), most - sure, len(left)
        if most < 0 or least > number:
            return FALSE
        if least == 0 and most >= number:
            return TRUE
        if least == number:
            return self.every(left)
        if most == 0:
            return self.every(map(self.opposite, left))
        if least == 1 and most >= number:
            return self.some(left)
        if least == 0 and most == number - 1:
            return self.some(map(self.opposite, left))
        return self._number(Count(left, least, min(most, number)), self._mentioned(left))

    def sum_within(self, values: Mapping[int, Sequence[int]], least: int, most: int) -> int:
        """Return the formula that the numbers of the chosen columns, `values[layer][column]`, add up to `least` to `most`.

        Numbers of a layer with the same effect, whatever the other layers take, become equal: so the layer has few classes.
        """
        whole = {layer: [number - min(numbers) for number in numbers] for layer, numbers in values.items()}
        floor = sum(map(min, values.values()))
        least, most, terms = least - floor, most - floor, []
        for layer, numbers in sorted(whole.items()):
            rest = sorted(_sums([whole[other] for other in whole if other != layer]))
            if rest:
                effects = {n: (bisect_left(rest, least - n), bisect_right(rest, most - n)) for n in numbers}
                first = {effects[number]: number for number in sorted(effects, reverse=True)}
                whole[layer] = [first[effects[number]] for number in numbers]
            vector = tuple(whole[layer])
            if vector not in self._vector_numbers:
                self._vector_numbers[vector] = len(self.vectors)
                self.vectors.append(vector)
            terms.append((layer, self._vector_numbers[vector]))
        return self._sum(terms, least, most)

    def _sum(self, terms: Sequence[tuple[int, int]], least: int, most: int) -> int:
        terms = [(layer, vector) for layer, vector in terms if any(self.vectors[vector])]
        total = sum(max(self.vectors[vector]) for _, vector in terms)
        least, most = max(least, 0), min(most, total)
        if least > most:
            return FALSE
        if least == 0 and most == total:
            return TRUE
        if len(terms) == 1:
            layer, vector = terms[0]
            return self.atom(layer, bits_of(least <= number <= most for number in self.vectors[vector]))
        return self._number(Sum(tuple(terms), least, most), reduce(or_, (1 << layer for layer, _ in terms)))

    def opposite(self, formula: int) -> int:
        """Return the negation of a formula."""
        found = self._opposites.get(formula)
        if found is not None:
            return found
        match self.nodes[formula]:
            case Atom(layer=layer, mask=mask):
                result = self.atom(layer, self._full[layer] & ~mask)
            case Joined(parts=parts, every=every):
                result = self._joined(map(self.opposite, parts), not every)
            case Count(parts=parts, least=least, most=most):
                fewer, more = self.count(parts, 0, least - 1), self.count(parts, most + 1, len(parts))
                result = self.some([fewer, more])
            case Sum(terms=terms, least=least, most=most):
                total = sum(max(self.vectors[vector]) for _, vector in terms)
                result = self.some([self._sum(terms, 0, least - 1), self._sum(terms, most + 1, total)])
            case _:
                raise AssertionError("constants are known")
        self._opposites[formula], self._opposites[result] = result, formula
        return result

    def assign(self, formula: int, layer: int, column: int) -> int:
        """Return the residual of a formula after a layer takes its column number `column` (counted within the layer)."""
        if not self.layers[formula] >> layer & 1:
            return formula
        key = formula, layer, column
        found = self._assigned.get(key)
        if found is None:
            found = self._assigned[key] = self._assign(formula, layer, column)
        return found

    def _assign(self, formula: int, layer: int, column: int) -> int:
        match self.nodes[formula]:
            case Atom(mask=mask):
                return TRUE if mask >> column & 1 else FALSE
            case Joined(parts=parts, every=every):
                return self._joined((self.assign(part, layer, column) for part in parts), every)
            case Count(parts=parts, least=least, most=most):
                self.work += len(parts)
                return self.count([self.assign(part, layer, column) for part in parts], least, most)
            case Sum(terms=terms, least=least, most=most):
                self.work += len(terms)
                taken = sum(self.vectors[vector][column] for own, vector in terms if own == layer)
                rest = [term for term in terms if term[0] != layer]
                return self._sum(rest, least - taken, most - taken)
            case _:
                raise AssertionError("constants mention no layer")

    def parts(self, formula: int) -> tuple[int, ...]:
        """Return the conjuncts of a formula: none for TRUE, the formula itself if it is no conjunction."""
        match self.nodes[formula]:
            case Joined(parts=parts, every=True):
                return parts
            case _:
                return () if formula == TRUE else (formula,)

    def masks(self, formulas: Iterable[int]) -> dict[int, set[int]]:
        """Return the masks of all atoms of formulas, and of each number in their sums, by layer."""
        found: dict[int, set[int]] = {}
        waiting = [*formulas]
        seen = set(waiting)
        while waiting:
            match self.nodes[waiting.pop()]:
                case Atom(layer=layer, mask=mask):
                    found.setdefault(layer, set()).add(mask)
                case Sum(terms=terms):
                    for layer, vector in terms:
                        found.setdefault(layer, set()).update(self.by_value(vector).values())
                case Joined(parts=parts) | Count(parts=parts):
                    waiting += [part for part in parts if part not in seen]
                    seen.update(parts)
        return found

    def by_value(self, vector: int) -> dict[int, int]:
        """Return the columns of each number of a vector, as bits, ascending by number."""
        return dict(sorted(places_by(self.vectors[vector]).items()))

    def truth(self, formula: int, chosen: Ints) -> Mask:
        """Return the mask of the answers [answer][layer] for which a formula holds."""
        match self.nodes[formula]:
            case Atom(layer=layer, mask=mask):
                if formula not in self._inside:
                    bits = [mask >> bit & 1 for bit in range(int(self.columns.sizes[layer]))]
                    self._inside[formula] = np.array(bits, dtype=np.bool_)
                return np.asarray(self._inside[formula][chosen[:, layer] - self.columns.start[layer]])
            case Joined(parts=parts, every=every):
                return np.asarray(self._true(parts, chosen) >= (len(parts) if every else 1))
            case Count(parts=parts, least=least, most=most):
                count = self._true(parts, chosen)
                return (count >= least) & (count <= most)
            case Sum(terms=terms, least=least, most=most):
                total = np.zeros(len(chosen), dtype=np.int64)
                for layer, vector in terms:
                    total += np.array(self.vectors[vector])[chosen[:, layer] - self.columns.start[layer]]
                return (total >= least) & (total <= most)
            case None:
                return np.full(len(chosen), formula == TRUE)
            case node:
                assert_never(node)

    def _true(self, parts: Sequence[int], chosen: Ints) -> Ints:
        count = np.zeros(len(chosen), dtype=np.int64)
        for part in parts:
            count += self.truth(part, chosen)
        return count

    def _joined(self, parts: Iterable[int], every: bool) -> int:
        """Join parts to a conjunction or disjunction, flattening nested ones of the same kind."""
        absorbing, neutral = (FALSE, TRUE) if every else (TRUE, FALSE)
        found: set[int] = set()
        nodes, masks = self.nodes, dict[int, int]()
        for part in parts:
            if part == absorbing:
                return absorbing
            node = nodes[part]
            inner = node.parts if type(node) is Joined and node.every is every else (part,)
            self.work += len(inner)
            for number in inner:
                leaf = nodes[number]
                if type(leaf) is Atom:
                    other = masks.get(leaf.layer)
                    mask = leaf.mask
                    if other is not None:
                        mask = mask & other if every else mask | other
                    if mask == (0 if every else self._full[leaf.layer]):
                        return absorbing
                    masks[leaf.layer] = mask
                elif leaf is not None:
                    found.add(number)
        found.update(self.atom(layer, mask) for layer, mask in masks.items())
        if len(found) <= 1:
            return next(iter(found), neutral)
        ordered = tuple(sorted(found))
        return self._number(Joined(ordered, every), self._mentioned(ordered))

    def _mentioned(self, parts: Sequence[int]) -> int:
        layers = 0
        for part in parts:
            layers |= self.layers[part]
        return layers

    def _number(self, node: Node, layers: int) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
            self.layers.append(layers)
        return number


def _sums(values: Iterable[Sequence[int]]) -> set[int]:
    """Return all sums of one number from each of `values`; an empty set if there are more than MOST_SUMS."""
    found = {0}
    for numbers in values:
        found = {number + before for number in {*numbers} for before in found}
        if len(found) > MOST_SUMS:
            return set()
    return found


def bits_of(flags: Iterable[object]) -> int:
    """Return the number whose set bits are the positions of true flags."""
    return sum(1 << place for place, flag in enumerate(flags) if flag)


def places_by(keys: Iterable[Key]) -> dict[Key, int]:
    """Return the places of each key, as bits."""
    found: dict[Key, int] = {}
    for place, key in enumerate(keys):
        found[key] = found.get(key, 0) | 1 << place
    return found


def places_of(bits: int) -> list[int]:
    """Return the positions of the set bits of a number, ascending."""
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


@lru_cache(maxsize=4096)  # many formulas have the same masks
def classes_of(masks: frozenset[int], columns: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Partition columns of a layer by the masks that have them. Return each class's first column, and each column's class."""
    known: dict[tuple[int, ...], int] = {}
    firsts, classes = [], []
    for column in columns:
        pattern = tuple([mask >> column & 1 for mask in masks])
        if pattern not in known:
            known[pattern] = len(known)
            firsts.append(column)
        classes.append(known[pattern])
    return firsts, classes
