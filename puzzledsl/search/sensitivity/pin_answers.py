"""Share answers between pins: every answer is an upper bound on the optimum of each pin that it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.sensitivity.pins import SUB_BLOCKS, Pin

NO_PIN = -1


@dataclass(frozen=True, slots=True, eq=False)
class PinsOfColumns:
    """Inverse of a list of pins. `pins[column]`: numbers of the column's pins, one for each sub-block; NO_PIN if not listed."""

    pins: Ints

    @classmethod
    def of(cls, problem: Problem, pins: Sequence[Pin]) -> PinsOfColumns:
        """Build the inverse of a list of pins."""
        found = np.full((len(problem.columns), len(SUB_BLOCKS)), NO_PIN, dtype=np.int64)
        for number, pin in enumerate(pins):
            found[pin.columns, SUB_BLOCKS.index(pin.sub_block)] = number
        return cls(found)

    def best(self, answers: Ints, values: Ints) -> Iterator[tuple[int, int]]:
        """Yield (pin, number of its best answer) for each pin that some answer has, given answers [answer][layer]."""
        pins = self.pins[answers].reshape(len(answers), answers.shape[1] * len(SUB_BLOCKS))
        place, which = (pins != NO_PIN).nonzero()
        pin = pins[place, which]
        order = np.lexsort((place, values[place], pin))
        pin, place = pin[order], place[order]
        first = np.diff(pin, prepend=NO_PIN) != 0
        yield from zip(pin[first].tolist(), place[first].tolist(), strict=True)
