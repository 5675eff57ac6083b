"""Proximal penalty for a search that is repeated with scores measured inside a child.

Such scores are correct for the child and for a change in one place, but too optimistic for many changes at once. The
search is therefore solved with several penalties on every choice that differs from the child's, its answers are
measured as whole models, and the penalty with the best answer is kept. A penalty so large that the child itself is
the answer is the fallback, so the measured score never gets worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.ir.tables import Assignment, EndsAssignment, ScoreTable, Solution

Solve = Callable[[ScoreTable], Solution | None]
"""Solve the search with a table; None if no solution is found."""
Judge = Callable[[Sequence[Solution]], list[float]]
"""Measure children as whole models on the score's text: the degradation of each from the parent; lower is better."""
STEPS = (0, Fraction(1, 2), 1, 2, 4, 8, 16)
"""Penalties to try, as multiples of the mean predicted gain per change."""
DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Move:
    """The chosen table, the search's answer with it, and the measured scores of the starting child and of the answer."""

    table: ScoreTable
    solution: Solution
    before: float
    after: float


def best_move(table: ScoreTable, child: Solution, solve: Solve, judge: Judge) -> Move:
    """Return the move to the answer with the best measured score; the child itself if no answer improves on it."""
    offers: list[tuple[ScoreTable, Solution]] = []
    for penalty in _penalties(table, child, solve):
        raised = penalised(table, child, penalty)
        answer = solve(raised)
        seen = [child.layers, *(offered.layers for _, offered in offers)]
        if answer is not None and answer.layers not in seen:
            offers.append((raised, answer))
    before, *figures = judge([child, *(answer for _, answer in offers)])
    after = min(figures, default=before)
    if after < before:
        raised, answer = offers[figures.index(after)]
        return Move(raised, answer, before, after)
    return Move(_unmoved(table, child, solve), child, before, before)


def _penalties(table: ScoreTable, child: Solution, solve: Solve) -> list[float]:
    """Return the penalties to try: STEPS times the mean gain per change that the table predicts; 0 alone without a gain."""
    answer = solve(table)
    if answer is None:
        return []
    changes = sum(
        value != there
        for one, other in zip(answer.layers, child.layers, strict=True)
        for (_, value), (_, there) in zip(one, other, strict=True)
    )
    gain = (total(table, child) - total(table, answer)) / max(1, changes)
    return [float(step) * gain for step in STEPS] if gain > 0 else [0.0]


def _unmoved(table: ScoreTable, child: Solution, solve: Solve) -> ScoreTable:
    """Return the table with a penalty large enough that the search's answer is the child."""
    penalty = max(1e-6, abs(total(table, child)) / len(child.layers))
    for _ in range(DOUBLINGS):
        raised = penalised(table, child, penalty)
        answer = solve(raised)
        if answer is None or answer.layers == child.layers:
            break
        penalty *= 2
    return raised


def penalised(table: ScoreTable, child: Solution, penalty: float) -> ScoreTable:
    """Return the table with `penalty` added to every choice but the child's. The child's total does not change.

    The parent's entry is 0 by definition. If the child's choice is not the parent's, its entry is lowered and the
    offset raised instead.
    """
    changed = deepcopy(table)
    offset = table.offset
    for layer, names in enumerate(child.layers):
        for entries, own in _entries(changed, layer, names):
            if own in ("parent", "parent/parent"):
                entries.update({name: value + penalty for name, value in entries.items()})
            else:
                entries[own] -= penalty
                offset += penalty
    return changed.model_copy(update={"offset": offset})


def total(table: ScoreTable, solution: Solution) -> float:
    """Return a child's score by a table: the offset plus one entry for each choice."""
    entries = (
        entry for layer, names in enumerate(solution.layers) for entry in _entries(table, layer, names)
    )
    return table.offset + sum(alternatives.get(name, 0.0) for alternatives, name in entries)


def _entries(table: ScoreTable, layer: int, names: Assignment) -> Iterator[tuple[dict[str, float], str]]:
    """Yield each dictionary of a layer's entries, or of the ends', with the child's choice in it."""
    if isinstance(names, EndsAssignment):
        yield table.embedding, names.embedding
        yield table.head, names.head
    elif table.unit == "block":
        yield table.pairs[layer], f"{names.attention}/{names.ffn}"
    else:
        yield table.attention[layer], names.attention
        yield table.ffn[layer], names.ffn
