"""A better answer near a known one: two layers changed at a time, so that what one needs more the other makes up for. Where no
two do, four at a time, from one answer to another that is hardly worse.

Where alike layers make a proof hopeless (the most parameters that fit, say), this closes almost all of the gap: two of some
hundred changes together can fill a budget almost exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from puzzledsl.search.bound import Bound
from puzzledsl.search.exchange import Changes, changes_of, fours_that_fit, pairs_that_fit
from puzzledsl.search.incumbent import meets_formulas
from puzzledsl.search.instance import Ints, Problem

CHANGES = 400  # that are tried with each other: those that the prices like best
TRIES = 64  # of the best pairs: formulas may forbid some
TOGETHER = 64  # pairs that are made at once, where they still fit beside each other
ROUNDS = 40
CHANGES_OF_FOUR = 140
TRIES_OF_FOUR = 50
STEPS = 12  # of a walk
WORSE = 0.15  # of the way from the bound to an answer: how much worse the next one of a walk may be


def polish(problem: Problem, bound: Bound, chosen: Ints) -> Ints:
    """An answer at least as good, where the given one meets every row and formula. Deterministic."""
    for better in polished(problem, bound, chosen):
        chosen = better
    return chosen


def polished(problem: Problem, bound: Bound, chosen: Ints, together: int = TOGETHER) -> Iterator[Ints]:
    """Answers, each better than the one before, the first better than the given one. `together`: pairs that are made at once."""
    for _ in range(ROUNDS):
        better = _by_pairs(problem, bound, chosen, together)
        if better is None:
            return
        yield better
        chosen = better


def walked(problem: Problem, bound: Bound, chosen: Ints) -> Iterator[Ints]:
    """Answers, each better than all before, from a walk: the best unseen answer with four changes, which may be a little worse,
    then polished by one pair at a time, which ends nearer by."""
    best = problem.goal.of(chosen)
    seen = {best}
    for _ in range(STEPS):
        step = _best_four(problem, bound, chosen, seen)
        if step is None:
            return
        for chosen in (step, *polished(problem, bound, step, together=1)):
            value = problem.goal.of(chosen)
            seen.add(value)
            if value < best:
                best = value
                yield chosen


def _by_pairs(problem: Problem, bound: Bound, chosen: Ints, together: int) -> Ints | None:
    """The answer with the two changes (or one) that lower the goal most, and others beside them; None where none does."""
    changes = changes_of(problem, bound, chosen, problem.goal.of(chosen) - 1, CHANGES)
    room, better = _room(problem, chosen), None
    pairs, _ = pairs_that_fit(changes, room)
    touched: set[int] = set()
    for pair in pairs[:TRIES]:
        if together == 0:
            break
        which = np.unique(pair)
        layers, need = set(changes.layers[which].tolist()), changes.rows[:, which].sum(axis=1)
        if touched & layers or (need > room).any():
            continue
        after = _changed(problem, chosen if better is None else better, changes, which)
        if after is not None:
            better, room, touched, together = after, room - need, touched | layers, together - 1
    return better


def _best_four(problem: Problem, bound: Bound, chosen: Ints, seen: set[int]) -> Ints | None:
    """The best answer with four changes whose goal is not in `seen`; None where that is more than a little worse, or the prices
    do not fit 64 bits."""
    value = problem.goal.of(chosen)
    spare = int((value - bound.value) * WORSE)
    changes = changes_of(problem, bound, chosen, value + spare, CHANGES_OF_FOUR)
    if bound.slack.dtype == object or not any(bound.prices) or len(changes) < 4:
        return None
    left = (value + spare) * bound.scale - bound.exact
    fours, totals = fours_that_fit(changes, bound, _room(problem, chosen), spare, left)
    for four, total in zip(fours[:TRIES_OF_FOUR], totals.tolist(), strict=False):
        after = None if value + total in seen else _changed(problem, chosen, changes, four)
        if after is not None:
            return after
    return None


def _room(problem: Problem, chosen: Ints) -> Ints:
    """What an answer leaves of each row."""
    return np.asarray(problem.limits - problem.matrix[:, chosen].sum(axis=1))


def _changed(problem: Problem, chosen: Ints, changes: Changes, which: Ints) -> Ints | None:
    """The answer with some changes made; None where a formula does not hold then."""
    after = chosen.copy()
    after[changes.layers[which]] = changes.columns[which]
    return after if meets_formulas(problem, after) else None
