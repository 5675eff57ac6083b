"""Units of scoring: replacements of one layer, or runs of dropped layers that end below one, that are measured together.

A unit has several replacements only if the scored tokens are few. Its composition does not depend on what is cached or on the
number of workers: in another one, a metric would have other last digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from puzzledsl.scoring.figures_cache import MemoryCache, Name
from puzzledsl.scoring.replacements import Replacement, Run

Scored = Replacement | Run
Unit = tuple[tuple[int, Scored], ...]
"""Replacements or runs, each with its row in `Rows`; runs have row -1, because nothing but their metrics is kept."""


def units(todo: Sequence[Replacement], runs: Sequence[Run], layers: int, together: int) -> list[Unit]:
    """Return all units in the order of their layers; at a layer, the runs that end below it come first."""
    found: list[Unit] = []
    for layer_idx in range(layers + 1):
        found += _batches([(-1, run) for run in runs if run.end == layer_idx], together)
        here = [(row, each) for row, each in enumerate(todo) if each.layer == layer_idx]
        found += _batches(here, together)
    return found


def single_units(todo: Sequence[Replacement], runs: Sequence[Run]) -> list[Unit]:
    """Return a unit for each replacement and run, without a row, by ascending first layer."""
    replaced: list[Scored] = [*todo, *runs]
    return [((-1, scored),) for scored in sorted(replaced, key=lambda each: each.layer)]


def _batches(numbered: Sequence[tuple[int, Scored]], size: int) -> Iterator[Unit]:
    return (tuple(numbered[start : start + size]) for start in range(0, len(numbered), size))


def names_of(found: Sequence[Unit]) -> Iterator[Name]:
    """Yield the names of all replacements and runs in the order in which they are measured."""
    return (figures_name(scored) for unit in found for _, scored in unit)


def enters(unit: Unit) -> int:
    """Return the layer that a unit enters after what is replaced."""
    scored = unit[0][1]
    return scored.end if isinstance(scored, Run) else scored.layer + 1


def is_known(unit: Unit, cache: MemoryCache) -> bool:
    """True if all metrics of a unit are cached."""
    return all(figures_name(scored) in cache.figures for _, scored in unit)


def figures_name(scored: Scored) -> Name:
    """Return the name under which the metrics of a replacement or run are cached."""
    return scored.layer, scored.table, scored.name
