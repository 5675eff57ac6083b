"""The accuracy that a child keeps beyond chance, with a paired bootstrap (Efron & Tibshirani 1993, chapter 13).

    kept = (child - chance) / (parent - chance)

A task's chance is the mean over its items of 1 / choices. The pooled figure is the sum over tasks of the child's excess over
chance, divided by the sum of the parent's: tasks have equal weights, and a task on which the parent is at chance is left out.
A resample draws items of each task anew, with the answers of both models and their chance together.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puzzledsl.ir.tables import Kept

POOLED = "pooled"
NORMALISED = "_norm"
RESAMPLES = 10_000
SEED = 0
TAIL = 0.025

Floats = NDArray[np.float64]
Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Task:
    """One task's means, and those of every resample: [RESAMPLES]."""

    name: str
    figure: str
    items: int
    child: float
    parent: float
    chance: float
    child_excesses: Floats
    parent_excesses: Floats

    @property
    def parent_at_chance(self) -> bool:
        """True where the parent's interval does not exclude chance."""
        return self.items < 2 or _low(self.parent_excesses) <= 0


def counted(samples: Samples) -> dict[str, str]:
    """Task -> the accuracy that counts: the length-normalised one where every item has it, as the harness's `acc_norm`."""
    twins = {name: f"{name}{NORMALISED}" for name in samples if f"{name}{NORMALISED}" in samples}
    whole = {name: twin for name, twin in twins.items() if len(samples[twin]) == len(samples[name])}
    return {name: whole.get(name, name) for name in samples if name not in twins.values()}


def kept(child: Samples, parent: Samples, chances: Samples) -> dict[str, Kept]:
    """By task, and `pooled`, of answers (right 1, wrong 0) to the same items in the same order.

    `chances`: by the same names, 1 / choices of each item, 0 where there is nothing to guess.
    """
    tasks = [
        _resampled(name, figure, child[figure], parent[figure], chances[figure])
        for name, figure in counted(chances).items()
        if figure in child and figure in parent
    ]
    found = {task.name: _of([task]) for task in tasks}
    if tasks:
        found[POOLED] = _of([task for task in tasks if not task.parent_at_chance] or tasks)
    return found


def _resampled(
    name: str, figure: str, child: Sequence[float], parent: Sequence[float], chances: Sequence[float]
) -> Task:
    """Items of equal outcome are drawn together: a resample is a multinomial over the distinct outcomes."""
    rows = np.array([child, parent, chances], dtype=np.float64).T
    outcomes, counts = np.unique(rows, axis=0, return_counts=True)
    dice = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    means = dice.multinomial(len(rows), counts / len(rows), RESAMPLES) @ outcomes / len(rows)
    child_mean, parent_mean, chance = (float(mean) for mean in counts @ outcomes / len(rows))
    excesses = means[:, :2] - means[:, 2:]
    return Task(name, figure, len(rows), child_mean, parent_mean, chance, excesses[:, 0], excesses[:, 1])


def _of(tasks: Sequence[Task]) -> Kept:
    """One task's figure, or that of several pooled: all of them above chance in the parent, or none."""
    child, parent, chance = (
        float(np.mean([getattr(task, name) for task in tasks])) for name in ("child", "parent", "chance")
    )
    at_chance = Kept(
        verdict="parent_at_chance",
        plain=child / parent if parent else None,
        parent=parent,
        child=child,
        chance=chance,
        items=sum(task.items for task in tasks),
        figures=tuple(task.figure for task in tasks),
    )
    if tasks[0].parent_at_chance:
        return at_chance
    ratios = _ratios(
        np.sum([task.child_excesses for task in tasks], axis=0),
        np.sum([task.parent_excesses for task in tasks], axis=0),
    )
    low, high = _low(ratios), _high(ratios)
    found = {
        "verdict": "child_at_chance" if low <= 0 else "above_chance",
        "chance_corrected": (child - chance) / (parent - chance),
        "low": low,
        "high": high,
    }
    return at_chance.model_copy(update=found)


def _ratios(child: Floats, parent: Floats) -> Floats:
    """Return child / parent; infinite for a resample whose parent is not above chance: it counts for one end of the interval."""
    infinite = np.where(child > 0, np.inf, -np.inf)
    return np.where(parent > 0, child / np.where(parent > 0, parent, 1.0), infinite)


def _low(values: Floats) -> float:
    return float(np.quantile(values, TAIL, method="lower"))


def _high(values: Floats) -> float:
    return float(np.quantile(values, 1 - TAIL, method="higher"))
