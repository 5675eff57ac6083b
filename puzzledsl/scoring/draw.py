"""Children to measure whole: near what a search would find, whatever its budget.

No search is needed for that. Within a price a parameter, every place chooses for itself (the Lagrangian of `score within a share
of the parameters`); prices are set so that the children's sizes cover what a search may ask for. Every other child is chosen by
scores that are a little wrong, as a search with other requirements would choose. Deterministic.

R replacements; rows number them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puzzledsl.ir import facts
from puzzledsl.ir.alternatives import Alternative, ParentAttention, ParentFfn, SubBlock
from puzzledsl.ir.nodes import Shape
from puzzledsl.scoring.replacements import Replacement

Floats = NDArray[np.float64]
Rows = tuple[int, ...]
"""A child: the rows of what it replaces, ascending."""
LEAST_SAVED, MOST_SAVED = 0.05, 0.7  # of what all replacements together can save
NOISE = 0.5  # of the logarithm of a score
ATTEMPTS = 8  # for a child that is not there yet
HALVINGS = 40
ROUNDS = 40
SWAPPED = 1e-2  # of a mean place, in parameters: what a replacement that saves none counts for


@dataclass(frozen=True, eq=False)
class Places:
    """The rows that exclude each other, a tuple a place, and what each row saves (parameters)."""

    rows: tuple[Rows, ...]
    saved_R: Floats

    @classmethod
    def of(cls, todo: Sequence[Replacement], shape: Shape) -> Places:
        """Of everything that is scored."""
        found: dict[tuple[int, str], list[int]] = {}
        for row, replacement in enumerate(todo):
            found.setdefault((replacement.layer, replacement.table), []).append(row)
        saved = np.array([_saved(replacement, shape) for replacement in todo], dtype=np.float64)
        most = sum(max(0.0, *saved[rows].tolist()) for rows in found.values())
        saved += SWAPPED * max(most, 1.0) / len(found)
        return cls(tuple(tuple(rows) for rows in found.values()), saved)

    def cheapest(self, value_R: Floats, pairs_RR: Floats, price: float) -> Rows:
        """The child with the least value less the price of what it saves: of a sum the best there is, else the best that
        changes of one place lead to."""
        chosen = [-1] * len(self.rows)
        for _ in range(ROUNDS):
            before = list(chosen)
            for place, rows in enumerate(self.rows):
                others = [row for at, row in enumerate(chosen) if row >= 0 and at != place]
                costs = [
                    float(value_R[row]) + math.fsum(pairs_RR[row, others].tolist()) - price * float(self.saved_R[row])
                    for row in rows
                ]  # fmt: skip
                least = min(range(len(rows)), key=costs.__getitem__)
                chosen[place] = rows[least] if costs[least] < 0 else -1
            if chosen == before:
                break
        return tuple(sorted(row for row in chosen if row >= 0))

    def saving(self, value_R: Floats, pairs_RR: Floats, share: float) -> Rows:
        """The child that saves at least a share of all that can be saved, by halving between prices."""
        most = math.fsum(max(0.0, *self.saved_R[list(rows)].tolist()) for rows in self.rows)
        least = float(self.saved_R.min(initial=1.0, where=self.saved_R > 0))
        low, high = 0.0, max(1e-9, float(value_R.max(initial=0.0))) / least
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            rows = self.cheapest(value_R, pairs_RR, middle)
            if math.fsum(self.saved_R[list(rows)].tolist()) >= share * most:
                high = middle
            else:
                low = middle
        return self.cheapest(value_R, pairs_RR, high)


def _saved(replacement: Replacement, shape: Shape) -> int:
    parents: dict[SubBlock, Alternative] = {"attention": ParentAttention(), "ffn": ParentFfn()}
    return sum(
        facts.params(parents[sub_block], shape) - facts.params(alternative, shape)
        for sub_block, alternative, _ in replacement.parts
    )


def drawn(
    places: Places, value_R: Floats, pairs_RR: Floats, count: int, seed: int, known: Sequence[Rows]
) -> list[Rows]:
    """Up to `count` children of two replacements or more, none of them `known`; sizes evenly spread."""
    found: list[Rows] = []
    for number in range(count):
        share = LEAST_SAVED + (MOST_SAVED - LEAST_SAVED) * (number + 0.5) / count
        offers = _offers(places, value_R, pairs_RR, share, f"{seed} {number}", noisy=number % 2 == 1)
        rows = next((o for o in offers if len(o) > 1 and o not in found and o not in known), None)
        if rows is not None:
            found.append(rows)
    return found


def _offers(
    places: Places, value_R: Floats, pairs_RR: Floats, share: float, seed: str, *, noisy: bool
) -> Iterator[Rows]:
    """The best child of about a size, then others by scores with noise; a noisy one has noise at once."""
    if not noisy:
        yield places.saving(value_R, pairs_RR, share)
    chance = random.Random(seed)
    for _ in range(ATTEMPTS):
        noise = np.array([math.exp(chance.gauss(0, NOISE)) for _ in range(len(value_R))])
        yield places.saving(value_R * noise, pairs_RR, share)
