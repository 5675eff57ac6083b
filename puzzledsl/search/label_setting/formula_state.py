"""Formula states of many labels at once: choices in the layers that formulas mention, packed into integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or
from puzzledsl.search.problem.columns import Columns, Ints, Mask
from puzzledsl.search.problem.formulas import Formula, layers_of

BITS = 7  # bits of a layer's code, which numbers the classes of columns that formulas distinguish
A_WORD = 63 // BITS  # codes in a word


@dataclass(frozen=True, slots=True, eq=False)
class FormulaState:
    """Encoding of partial models' choices for formulas.

    `slots[layer]`: number of the layer's code. `masks[layer][atom][code]`: truth of each `Is` of the layer.
    `deltas[word][column]`: amount that choosing a column adds to a model's words.
    """

    formulas: tuple[Formula, ...]
    slots: dict[int, int]
    masks: dict[int, dict[Is, Mask]]
    deltas: Ints

    @property
    def words(self) -> int:
        """Number of words of a partial model's codes."""
        return len(self.deltas)

    def holds(self, formula: Formula, words: Ints) -> Mask:
        """Return the mask of partial models, given as words [word][model], that satisfy a formula.

        All layers of the formula must be chosen.
        """
        return self._truth(formula.logic, words)

    def _truth(self, logic: Logic, words: Ints) -> Mask:
        match logic:
            case Is(layer=layer):
                word, place = divmod(self.slots[layer], A_WORD)
                codes = (words[word] >> (BITS * place)) & (2**BITS - 1)
                masks: Mask = self.masks[layer][logic][codes]
                return masks
            case Not(operand=operand):
                return ~self._truth(operand, words)
            case And(operands=operands):
                return self._all([self._truth(o, words) for o in operands], words)
            case Or(operands=operands):
                return ~self._all([~self._truth(o, words) for o in operands], words)
            case Implies(condition=condition, consequence=consequence):
                return ~self._truth(condition, words) | self._truth(consequence, words)
            case Cardinality(operands=operands, at_least=least, at_most=most):
                count = np.zeros(words.shape[1], dtype=np.int64)
                for operand in operands:
                    count += self._truth(operand, words)
                return (count >= least) & (count <= (len(operands) if most is None else most))
            case _:
                assert_never(logic)

    def _all(self, parts: Sequence[Mask], words: Ints) -> Mask:
        result = np.ones(words.shape[1], dtype=np.bool_)
        for part in parts:
            result &= part
        return result

    def pending(self, layers: Sequence[int]) -> Ints:
        """Return the bits of each word that hold the codes of these layers."""
        masks = np.zeros(self.words, dtype=np.int64)
        for layer in layers:
            word, place = divmod(self.slots[layer], A_WORD)
            masks[word] |= (2**BITS - 1) << (BITS * place)
        return masks


def formula_state_of(columns: Columns, formulas: Sequence[Formula]) -> FormulaState | None:
    """Build the codes of formulas; None if formulas distinguish more classes of a layer's columns than a code can number."""
    layers = sorted(frozenset().union(*(layers_of(f.logic) for f in formulas)))
    slots = {layer: slot for slot, layer in enumerate(layers)}
    deltas = np.zeros((-(-len(layers) // A_WORD), len(columns)), dtype=np.int64)
    masks: dict[int, dict[Is, Mask]] = {}
    for layer, slot in slots.items():
        atoms = list(dict.fromkeys(a for f in formulas for a in _atoms(f.logic) if a.layer == layer))
        here = columns.of_layer(layer)
        table = np.array([[getattr(c, a.sub_block) in a.alternatives for c in here] for a in atoms])
        patterns, code = np.unique(table, axis=1, return_inverse=True)
        if patterns.shape[1] > 2**BITS:
            return None
        masks[layer] = dict(zip(atoms, patterns, strict=True))
        begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
        word, place = divmod(slot, A_WORD)
        deltas[word, begin:end] = code.reshape(-1).astype(np.int64) << (BITS * place)
    return FormulaState(tuple(formulas), slots, masks, deltas)


def _atoms(logic: Logic) -> list[Is]:
    match logic:
        case Is():
            return [logic]
        case Not(operand=operand):
            return _atoms(operand)
        case And(operands=operands) | Or(operands=operands) | Cardinality(operands=operands):
            return [atom for operand in operands for atom in _atoms(operand)]
        case Implies(condition=condition, consequence=consequence):
            return [*_atoms(condition), *_atoms(consequence)]
        case _:
            assert_never(logic)
