"""Scoring in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.scoring.figures_cache import FiguresCache
from puzzledsl.scoring.influence import Sums
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.position_kls import PositionKls
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.subject import Facts, Subject
from puzzledsl.scoring.sweep.threads import Workers


class Scorer(Protocol):
    """Measurer of one score's replacements, here or on the workers of a cluster, with the same results."""

    facts: Facts
    influence: Sequence[Sums]
    """Block influence of the parent, by group of tokens; known after `measure`."""

    def measure(self, known: FiguresCache, rows: PositionKls) -> None:
        """Measure everything that is not in `known`, and store it there and in `rows`."""

    def wholes(self, children: Sequence[Sequence[Replacement]]) -> Iterator[tuple[int, Figures]]:
        """Yield the number and the metrics of each child, given by its replacements, as it is measured. After `measure`."""

    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """Return the metrics of the parent with its embedding or its head in a storage type. After `measure`."""


class Here:
    """A `Scorer` in this process."""

    def __init__(self, inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]) -> None:
        """Load the parent. Raises DiagnosticError: those of `Subject`."""
        self._subject, self._todo, self._runs = Subject(inputs), todo, runs
        self.facts = self._subject.facts()
        self.influence: Sequence[Sums] = ()

    def measure(self, known: FiguresCache, rows: PositionKls) -> None:
        """See `Scorer`."""
        inputs = self._subject.inputs
        sweep = self._subject.sweep(self.facts, self._runs, known, rows, inputs.progress)
        sweep.run(self._todo, inputs.around, self._runs)
        self.influence = sweep.influence

    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """See `Scorer`."""
        with Workers(self._subject.runner.device):
            return self._subject.with_end(site, dtype)

    def wholes(self, children: Sequence[Sequence[Replacement]]) -> Iterator[tuple[int, Figures]]:
        """See `Scorer`."""
        with Workers(self._subject.runner.device):  # so that no product is split among threads
            for number, replacements in enumerate(children):
                yield number, self._subject.with_replaced(replacements)
