"""Answers shared between pins: every answer bounds the optimum of each pin that it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.pins import SUB_BLOCKS, Pin

NO_PIN = -1


@dataclass(frozen=True, slots=True, eq=False)
class PinsOfColumns:
    """The pins that have each column, `pins[column]`, as places in a list: one a sub-block, `NO_PIN` where it is not listed."""

    pins: Ints

    @classmethod
    def of(cls, problem: Problem, pins: Sequence[Pin]) -> PinsOfColumns:
        """The inverse of a list of pins."""
        found = np.full((len(problem.columns), len(SUB_BLOCKS)), NO_PIN, dtype=np.int64)
        for number, pin in enumerate(pins):
            found[pin.columns, SUB_BLOCKS.index(pin.sub_block)] = number
        return cls(found)

    def best(self, answers: Ints, values: Ints) -> Iterator[tuple[int, int]]:
        """Each pin that some answers, [answer][layer], have; and the place of the least of their values."""
        pins = self.pins[answers].reshape(len(answers), answers.shape[1] * len(SUB_BLOCKS))
        place, which = (pins != NO_PIN).nonzero()
        pin = pins[place, which]
        order = np.lexsort((place, values[place], pin))
        pin, place = pin[order], place[order]
        first = np.diff(pin, prepend=NO_PIN) != 0
        yield from zip(pin[first].tolist(), place[first].tolist(), strict=True)
