"""Exchange local search: change two layers at a time, so that one makes up for the other's resource use.

Where no pair helps, a walk exchanges four at a time and may go through slightly worse answers.

If interchangeable layers make a proof hopeless (for example, when parameters are maximised), this closes almost all of the gap:
some pair of a few hundred changes fills a budget almost exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.local_search.exchange import Changes, changes_of, fours_that_fit, pairs_that_fit
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import Problem

CHANGES = 400  # changes with the least slack that are paired
TRIES = 64  # best pairs tried, because formulas may forbid some
TOGETHER = 64  # most pairs applied in one round, if they still fit together
ROUNDS = 40
CHANGES_OF_FOUR = 140
TRIES_OF_FOUR = 50
STEPS = 12  # steps of a walk
WORSE = 0.15  # a step of a walk may be worse by this share of the answer's distance from the bound


def improvements(problem: Problem, bound: Bound, chosen: Ints, together: int = TOGETHER) -> Iterator[Ints]:
    """Yield ever better answers, starting from `chosen`, which must satisfy every row and formula. Deterministic.

    `together`: most pairs applied in one round.
    """
    for _ in range(ROUNDS):
        better = _by_pairs(problem, bound, chosen, together)
        if better is None:
            return
        yield better
        chosen = better


def walked(problem: Problem, bound: Bound, chosen: Ints) -> Iterator[Ints]:
    """Yield ever better answers found on a walk.

    Each step takes the best four changes to an answer with an unseen sum, which may be slightly worse, and then improves it by
    one pair at a time, which stays closer than several at once.
    """
    best = problem.goal.of(chosen)
    seen = {best}
    for _ in range(STEPS):
        step = _best_four(problem, bound, chosen, seen)
        if step is None:
            return
        for chosen in (step, *improvements(problem, bound, step, together=1)):
            value = problem.goal.of(chosen)
            seen.add(value)
            if value < best:
                best = value
                yield chosen


def _by_pairs(problem: Problem, bound: Bound, chosen: Ints, together: int) -> Ints | None:
    """Apply the best improving pair of changes (or single one), and up to `together` in all that fit; None if none improves."""
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
    """Return the best answer with four changes whose sum is not in `seen`.

    None if it is worse by more than WORSE allows, or the prices do not fit into 64 bits.
    """
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
    """Return the room that an answer leaves in each row, [rows]."""
    return np.asarray(problem.limits - problem.matrix[:, chosen].sum(axis=1))


def _changed(problem: Problem, chosen: Ints, changes: Changes, which: Ints) -> Ints | None:
    """Apply the changes `which`; None if a formula is then violated."""
    after = chosen.copy()
    after[changes.layers[which]] = changes.columns[which]
    return after if problem.meets_formulas(after) else None
