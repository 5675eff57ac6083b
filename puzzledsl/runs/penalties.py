"""How far a search may move from a child when it is asked again with scores made inside that child.

Such a table is right for the child and for what differs from it in one place, and promises too much of what differs in many.
So the search is asked several times, with a growing penalty on every choice that is not the child's; its answers are measured
whole, and the table keeps the penalty whose answer is best. At the end stands a penalty that leaves the child as it is, so that
what is measured never gets worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.ir.tables import LayerAssignment, ScoreTable, Solution

Solve = Callable[[ScoreTable], Solution | None]
"""The search's answer by a table; None where none is found."""
Judge = Callable[[Sequence[Solution]], list[float]]
"""Children -> how much worse than the parent each is, measured as a whole on the score's text."""
STEPS = (0, Fraction(1, 2), 1, 2, 4, 8, 16)
"""Penalties that are tried, as multiples of what a change is predicted to gain in the mean."""
DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Move:
    """A table, the search's answer by it, and what was measured of the child that it started from and of the answer."""

    table: ScoreTable
    solution: Solution
    before: float
    after: float


def best_move(table: ScoreTable, child: Solution, solve: Solve, judge: Judge) -> Move:
    """The penalty whose answer is measured to be best; the child itself where none is better than it."""
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
    """From none to twice the mean gain of a change, as the table itself predicts it."""
    answer = solve(table)
    if answer is None:
        return []
    changes = sum(
        (one.attention != other.attention) + (one.ffn != other.ffn)
        for one, other in zip(answer.layers, child.layers, strict=True)
    )
    gain = (total(table, child) - total(table, answer)) / max(1, changes)
    return [float(step) * gain for step in STEPS] if gain > 0 else [0.0]


def _unmoved(table: ScoreTable, child: Solution, solve: Solve) -> ScoreTable:
    """The table with a penalty so large that the search's answer is the child."""
    penalty = max(1e-6, abs(total(table, child)) / len(child.layers))
    for _ in range(DOUBLINGS):
        raised = penalised(table, child, penalty)
        answer = solve(raised)
        if answer is None or answer.layers == child.layers:
            break
        penalty *= 2
    return raised


def penalised(table: ScoreTable, child: Solution, penalty: float) -> ScoreTable:
    """The table with every choice but the child's raised. What it says of the child stays the same.

    The parent's own entry is 0 by definition: where it is not the child's, the child's is lowered and the offset raised.
    """
    changed = table.model_copy(deep=True)
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
    """What a table without pairwise terms says of a child."""
    entries = (
        entry for layer, names in enumerate(solution.layers) for entry in _entries(table, layer, names)
    )
    return table.offset + sum(alternatives.get(name, 0.0) for alternatives, name in entries)


def _entries(table: ScoreTable, layer: int, names: LayerAssignment) -> Iterator[tuple[dict[str, float], str]]:
    """The dictionaries of a layer, and what a child has in each."""
    if table.unit == "block":
        yield table.pairs[layer], f"{names.attention}/{names.ffn}"
    else:
        yield table.attention[layer], names.attention
        yield table.ffn[layer], names.ffn
