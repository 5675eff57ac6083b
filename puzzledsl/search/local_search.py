"""Heuristics for good answers: repair by prices, and exchanges of columns.

Repair starts from the cheapest columns at the bound's prices. Exchange changes two layers at a time,
so that one makes up for the other's resource use.

If interchangeable layers make a proof hopeless (for example, when parameters are maximised), this closes almost all of the gap:
some pair of a few hundred changes fills a budget almost exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic

import numpy as np

from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.columns import Ints, mixed
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.residuals import places_of

CHANGES = 400  # changes with the least slack that are paired
TRIES = 64  # best pairs tried, because formulas may forbid some
ROUNDS = 40
REPAIR = 50_000  # layers of formulas looked at by a repair: about .2 s
LOCAL = 8  # most layers of a broken formula that one column may mend
ALIKE = 2  # most changes with equal effects that are kept; two, because both may be made


def find_incumbent(problem: Problem, bound: Bound, deadline: float = inf) -> Ints | None:
    """Return columns that satisfy every formula, then every row, mended one by one; None if that fails or takes too long."""
    columns, rows = problem.columns, problem.matrix
    reduced = bound.reduced.astype(np.float64)
    layer_of = columns.layer_of
    pool = problem.normal
    parts = [part for formula in (*pool.runs, *pool.formulas) for part in pool.parts(formula)]
    around = _by_layer(problem, parts)
    size = [sum(pool.layers[part].bit_count() for part in here) for here in around]
    work = REPAIR - sum(size)
    chosen = (
        np.array([*map(np.argmin, np.split(reduced, columns.start[1:-1]))], dtype=np.int64)
        + columns.start[:-1]
    )
    scale = np.maximum(np.abs(rows).max(axis=1, initial=1), 1).astype(np.float64)
    broken = [part for part in parts if not pool.truth(part, chosen[None, :])[0]]
    while work > 0 and monotonic() <= deadline:
        use = rows[:, chosen].sum(axis=1)
        excess = float((np.maximum(use - problem.limits, 0) / scale).sum())
        if excess == 0 and not broken:
            return chosen
        after = use[:, None] - rows[:, chosen][:, layer_of] + rows
        gain = excess - (np.maximum(after - problem.limits[:, None], 0) / scale[:, None]).sum(axis=0)
        if broken:
            open_to = places_of(pool.layers[broken[0]])
            if len(open_to) > LOCAL:
                return None
            gain[~np.isin(layer_of, open_to)] = 0
            for layer in open_to:
                here = np.arange(columns.start[layer], columns.start[layer + 1])
                before = sum(part in around[layer] for part in broken)
                gain[here] += before - _broken(problem, around[layer], _swapped(chosen, layer_of, here))
                work -= size[layer]
        price = reduced - reduced[chosen][layer_of]
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = np.where(gain > 1e-12, (price + 1e-9 * (1 + np.abs(price))) / gain, np.inf)
        first = np.argsort(worth, kind="stable")[: 1 if broken or not parts else TRIES]
        first = first[np.isfinite(worth[first])]
        if parts and not broken:
            touched = list(dict.fromkeys(part for layer in layer_of[first] for part in around[layer]))
            first = first[_broken(problem, touched, _swapped(chosen, layer_of, first)) == 0]
            work -= sum(pool.layers[part].bit_count() for part in touched)
        if not len(first):
            return None
        layer = int(layer_of[first[0]])
        chosen[layer] = first[0]
        broken = [part for part in broken if part not in around[layer]]
        broken += [part for part in around[layer] if not pool.truth(part, chosen[None, :])[0]]
        work -= size[layer] + 1
    return None


def _by_layer(problem: Problem, parts: Sequence[int]) -> list[dict[int, None]]:
    """Return the formulas, of `parts`, that mention each layer, in order."""
    found: list[dict[int, None]] = [{} for _ in range(problem.columns.layers)]
    for part in parts:
        for layer in places_of(problem.normal.layers[part]):
            found[layer][part] = None
    return found


def _broken(problem: Problem, parts: Iterable[int], answers: Ints) -> Ints:
    """Return the number of formulas, of `parts`, that each answer [answer][layer] breaks."""
    broken = np.zeros(len(answers), dtype=np.int64)
    for part in parts:
        broken += ~problem.normal.truth(part, answers)
    return broken


def _swapped(chosen: Ints, layer_of: Ints, columns: Ints) -> Ints:
    """Return one answer for each of `columns`: `chosen` with this column."""
    answers = np.tile(chosen, (len(columns), 1))
    answers[np.arange(len(columns)), layer_of[columns]] = columns
    return answers


def improvements(problem: Problem, bound: Bound, chosen: Ints) -> Iterator[Ints]:
    """Yield ever better answers, starting from `chosen`, which must satisfy every row and formula. Deterministic."""
    for _ in range(ROUNDS):
        better = _by_pairs(problem, bound, chosen)
        if better is None:
            return
        yield better
        chosen = better


def _by_pairs(problem: Problem, bound: Bound, chosen: Ints) -> Ints | None:
    """Apply the best improving pair of changes (or single one), and others that fit with it; None if none improves."""
    changes = changes_of(problem, bound, chosen, problem.goal.of(chosen) - 1, CHANGES)
    room, better = np.asarray(problem.limits - problem.matrix[:, chosen].sum(axis=1)), None
    pairs, _ = pairs_that_fit(changes, room)
    touched: set[int] = set()
    for pair in pairs[:TRIES]:
        which = np.unique(pair)
        layers, need = set(changes.layers[which].tolist()), changes.rows[:, which].sum(axis=1)
        if touched & layers or (need > room).any():
            continue
        after = (chosen if better is None else better).copy()
        after[changes.layers[which]] = changes.columns[which]
        if problem.meets_formulas(after):
            better, room, touched = after, room - need, touched | layers
    return better


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """Columns to swap in, least slack first, with their layers.

    Differences to the answer's own columns: `goals[change]` (objective), `rows[row][change]`, `slack[change]`.
    """

    columns: Ints
    layers: Ints
    goals: Ints
    rows: Ints
    slack: Ints

    def __len__(self) -> int:
        return len(self.columns)


def changes_of(problem: Problem, bound: Bound, chosen: Ints, most: int, number: int) -> Changes:
    """Return the `number` changes of least slack for an answer of sum `most`, at most ALIKE of equal effects."""
    within = bound.within(most)
    within[chosen] = False
    columns = within.nonzero()[0]
    columns = columns[np.argsort(bound.slack[columns].astype(np.float64), kind="stable")]
    layers = problem.columns.layer_of[columns]
    own = chosen[layers]
    goals = problem.goal.values[columns] - problem.goal.values[own]
    rows = problem.matrix[:, columns] - problem.matrix[:, own]
    kept = _few_alike(np.vstack([goals, rows]))[:number]
    slack = bound.slack[columns[kept]] - bound.slack[own[kept]]
    return Changes(columns[kept], layers[kept], goals[kept], rows[:, kept], slack)


def _few_alike(figures: Ints) -> Ints:
    """Return the places of columns of `figures` that are among the first ALIKE with the same values, ascending."""
    kinds = mixed(figures)
    order = np.argsort(kinds, kind="stable")
    repeated = np.zeros(len(order), dtype=np.bool_)
    repeated[ALIKE:] = kinds[order][ALIKE:] == kinds[order][:-ALIKE]
    return np.sort(order[~repeated])


def pairs_that_fit(changes: Changes, room: Ints) -> tuple[Ints, Ints]:
    """Return pairs of changes, each single one with itself, that lower the objective within `room[row]`, best first."""
    together = changes.goals[:, None] + changes.goals[None, :]
    fits = (changes.layers[:, None] < changes.layers[None, :]) & (together < 0)
    for row, left in zip(changes.rows, room, strict=True):
        fits &= row[:, None] + row[None, :] <= left
    alone = np.diag_indices(len(changes))
    fits[alone] = (changes.rows <= room[:, None]).all(axis=0) & (changes.goals < 0)
    together[alone] = changes.goals
    found = np.flatnonzero(fits)
    totals = together.ravel()[found]
    order = np.argsort(totals, kind="stable")
    return np.array(np.divmod(found[order], len(changes))).T, totals[order]
