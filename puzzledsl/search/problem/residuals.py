"""Residual formulas: propositional requirements simplified by the choices of some layers.

Formulas are in negation normal form and hash-consed: equal formulas have equal numbers, so a number can be the state of a
decision diagram. An atom states that a layer takes one of a set of columns, which are the bits of an integer.
Source: hash-consed residual states as in Bergman, Cire, van Hoeve & Hooker, "Decision Diagrams for Optimization" (2016), ch. 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or
from puzzledsl.search.problem.columns import Columns, Ints

TRUE, FALSE = 0, 1


@dataclass(frozen=True, slots=True)
class Atom:
    """Atomic formula: the layer takes a column whose bit is set in `mask`."""

    layer: int
    mask: int


@dataclass(frozen=True, slots=True)
class Every:
    """Conjunction. `parts`: numbers of formulas."""

    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Disjunction. `parts`: numbers of formulas."""

    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """Cardinality constraint: from `least` to `most` of the parts hold. Parts may be repeated."""

    parts: tuple[int, ...]
    least: int
    most: int


Node = Atom | Every | Some | Count


class Residuals:
    """Pool of formulas over the columns of a problem.

    `layers[formula]`: bits of a superset of the layers that it mentions. `work`: number of parts looked at so far.
    """

    def __init__(self, columns: Columns) -> None:
        self.nodes: list[Node | None] = [None, None]
        self.layers: list[int] = [0, 0]
        self.work = 0
        self._numbers: dict[Node, int] = {}
        self._opposites: dict[int, int] = {TRUE: FALSE, FALSE: TRUE}
        self._assigned: dict[tuple[int, int, int], int] = {}
        self._own_classes: dict[tuple[int, frozenset[int]], tuple[list[int], Ints]] = {}
        self._full = [(1 << int(size)) - 1 for size in columns.sizes]
        self._bits = [_bits_of(columns, layer) for layer in range(columns.layers)]

    # ---------------------------------------------------------------- building

    def formula(self, logic: Logic) -> int:
        """Return the number of a formula."""
        match logic:
            case Is(layer=layer, sub_block=sub_block, alternatives=names):
                bits = self._bits[layer][sub_block]
                mask = 0
                for name in names:
                    mask |= bits.get(name, 0)
                return self.atom(layer, mask)
            case Not(operand=operand):
                return self.opposite(self.formula(operand))
            case And(operands=operands):
                return self.every(map(self.formula, operands))
            case Or(operands=operands):
                return self.some(map(self.formula, operands))
            case Implies(condition=condition, consequence=consequence):
                return self.some([self.opposite(self.formula(condition)), self.formula(consequence)])
            case Cardinality(operands=operands, at_least=least, at_most=most):
                parts = [*map(self.formula, operands)]
                return self.count(parts, least, len(parts) if most is None else most)
            case _:
                assert_never(logic)

    def atom(self, layer: int, mask: int) -> int:
        """Return the formula that the layer takes a column of `mask`."""
        if mask == 0:
            return FALSE
        return TRUE if mask == self._full[layer] else self._number(Atom(layer, mask), 1 << layer)

    def every(self, parts: Iterable[int]) -> int:
        """Return the conjunction of parts; atoms of one layer are intersected."""
        return self._joined((), parts, Every, FALSE, TRUE)

    def some(self, parts: Iterable[int]) -> int:
        """Return the disjunction of parts; atoms of one layer are united."""
        return self._joined((), parts, Some, TRUE, FALSE)

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

    def opposite(self, formula: int) -> int:
        """Return the negation of a formula."""
        found = self._opposites.get(formula)
        if found is not None:
            return found
        match self.nodes[formula]:
            case Atom(layer=layer, mask=mask):
                result = self.atom(layer, self._full[layer] & ~mask)
            case Every(parts=parts):
                result = self.some(map(self.opposite, parts))
            case Some(parts=parts):
                result = self.every(map(self.opposite, parts))
            case Count(parts=parts, least=least, most=most):
                fewer, more = self.count(parts, 0, least - 1), self.count(parts, most + 1, len(parts))
                result = self.some([fewer, more])
            case _:
                raise AssertionError("constants are known")
        self._opposites[formula], self._opposites[result] = result, formula
        return result

    # ---------------------------------------------------------------- choosing

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
            case Every(parts=parts):
                return self._replaced(formula, parts, Every, layer, column)
            case Some(parts=parts):
                return self._replaced(formula, parts, Some, layer, column)
            case Count(parts=parts, least=least, most=most):
                self.work += len(parts)
                return self.count([self.assign(part, layer, column) for part in parts], least, most)
            case _:
                raise AssertionError("constants mention no layer")

    def _replaced(
        self, formula: int, parts: tuple[int, ...], kind: type[Every] | type[Some], layer: int, column: int
    ) -> int:
        """Return the residual of a conjunction or disjunction; fast if few of many parts mention the layer."""
        absorbing, neutral = (FALSE, TRUE) if kind is Every else (TRUE, FALSE)
        layers = self.layers
        self.work += len(parts)
        moved = {self.assign(part, layer, column) for part in parts if layers[part] >> layer & 1}
        if absorbing in moved:
            return absorbing
        kept = [part for part in parts if not layers[part] >> layer & 1]
        moved.discard(neutral)
        if moved:
            return self._joined(kept, moved, kind, absorbing, neutral)
        if len(kept) <= 1:
            return kept[0] if kept else neutral
        return self._number(kind(tuple(kept)), layers[formula] & ~(1 << layer))

    def parts(self, formula: int) -> tuple[int, ...]:
        """Return the conjuncts of a formula: none for TRUE, the formula itself if it is no conjunction."""
        node = self.nodes[formula]
        return () if formula == TRUE else node.parts if isinstance(node, Every) else (formula,)

    def masks(self, formula: int, found: dict[int, set[int]]) -> None:
        """Add the masks of all atoms of a formula to `found`, by layer."""
        seen, waiting = {formula}, [formula]
        while waiting:
            match self.nodes[waiting.pop()]:
                case Atom(layer=layer, mask=mask):
                    found.setdefault(layer, set()).add(mask)
                case Every(parts=parts) | Some(parts=parts) | Count(parts=parts):
                    waiting += [part for part in parts if part not in seen]
                    seen.update(parts)

    def own_classes(
        self, layer: int, masks: frozenset[int], columns: Sequence[int]
    ) -> tuple[list[int], Ints]:
        """Partition columns of a layer by atoms with these masks.

        Return one column of each class, and the class of each of `columns`.
        """
        key = layer, masks
        if key not in self._own_classes:
            known: dict[tuple[int, ...], int] = {}
            first_of, own = [], []
            for column in columns:
                pattern = tuple([mask >> column & 1 for mask in masks])
                if pattern not in known:
                    known[pattern] = len(known)
                    first_of.append(column)
                own.append(known[pattern])
            self.work += len(columns) * len(masks)
            self._own_classes[key] = first_of, np.array(own, dtype=np.int64)
        return self._own_classes[key]

    # ---------------------------------------------------------------- the pool

    def _joined(
        self,
        kept: Sequence[int],
        parts: Iterable[int],
        kind: type[Every] | type[Some],
        absorbing: int,
        neutral: int,
    ) -> int:
        """Join parts to a conjunction or disjunction, flattening nested ones of the same kind.

        `kept`: parts that are already joined. Returns `absorbing` if a part decides the result, `neutral` if none is left.
        """
        found = set(kept)
        nodes, layers = self.nodes, self.layers
        atoms = {layers[part]: part for part in kept if type(nodes[part]) is Atom}
        for part in parts:
            if part == absorbing:
                return absorbing
            node = nodes[part]
            inner = node.parts if type(node) is kind else (part,)
            self.work += len(inner)
            for number in inner:
                leaf = nodes[number]
                if type(leaf) is Atom:
                    other = atoms.setdefault(layers[number], number)
                    if other != number:
                        merged = self._merged(leaf, other, kind)
                        if merged == absorbing:
                            return absorbing
                        found.discard(other)
                        atoms[layers[number]] = merged
                elif leaf is not None:
                    found.add(number)
        found.update(atoms.values())
        if len(found) <= 1:
            return next(iter(found), neutral)
        ordered = tuple(sorted(found))
        return self._number(kind(ordered), self._mentioned(ordered))

    def _merged(self, atom: Atom, other: int, kind: type[Every] | type[Some]) -> int:
        """Merge two atoms of one layer into one."""
        second = self.nodes[other]
        assert isinstance(second, Atom)
        mask = atom.mask & second.mask if kind is Every else atom.mask | second.mask
        return self.atom(atom.layer, mask)

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


def _bits_of(columns: Columns, layer: int) -> dict[str, dict[str, int]]:
    """Return, for each sub-block and alternative, the bits of the layer's columns that have it."""
    found: dict[str, dict[str, int]] = {"attention": {}, "ffn": {}}
    for place, choice in enumerate(columns.of_layer(layer)):
        for part, name in (("attention", choice.attention), ("ffn", choice.ffn)):
            found[part][name] = found[part].get(name, 0) | 1 << place
    return found
