"""Scoring on the workers of a cluster: each has the parent, and measures the units that it is given.

A unit's metrics are the same bytes wherever they are measured: a worker computes the parent's stream up to the unit's layer
by itself, and uses one thread, as `scoring.sweep.threads` does. Units are handed out by ascending layer, so that a worker climbs
the parent once. Results are stored by the process that runs the score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from puzzledsl.base.progress import Silent
from puzzledsl.cluster.tasks import LocalExecutor, Task, Teams, TeamSpec
from puzzledsl.scoring.figures_cache import FiguresCache, MemoryCache
from puzzledsl.scoring.influence import Sums
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.pairwise import chunks, covariance_sum
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.states import Kept, States
from puzzledsl.scoring.subject import Facts, Subject
from puzzledsl.scoring.sweep.sweep import Measured, Sweep, keep
from puzzledsl.scoring.sweep.threads import Workers
from puzzledsl.scoring.sweep.units import Unit, figures_name, is_known, names_of
from puzzledsl.scoring.table import INCUMBENT


@dataclass(frozen=True)
class Part:
    """Maker of a worker's `Measurer`."""

    inputs: ScoreInputs
    todo: Sequence[Replacement]
    runs: Sequence[Run]

    @classmethod
    def spec(cls, inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]) -> TeamSpec:
        """Return the teams that measures a score. A worker has one thread, as each worker of one process has."""
        there = replace(
            inputs,
            parent_dir=inputs.parent_dir.resolve(),
            base=inputs.base.resolve(),
            library=type(inputs.library)(inputs.library.root.resolve()),
            work=inputs.work.resolve(),
            progress=Silent(),
            executor=LocalExecutor(),
        )
        return TeamSpec(cls(there, todo, runs), threads=1)

    def __call__(self, member: int) -> Measurer:
        """Return a new measurer."""
        return Measurer(self)


class Measurer:
    """A worker's object: measures the units, whole children and pairwise terms that it is asked for."""

    def __init__(self, part: Part) -> None:
        """Load the parent. Raises DiagnosticError: those of `Subject`."""
        self._part, self._subject = part, Subject(part.inputs)
        self._workers = Workers(self._subject.runner.device)
        self._workers.__enter__()  # for good: the process does nothing else
        self._packed = ExitStack()
        self._is_open, self._is_packed = False, False

    @cached_property
    def _facts(self) -> Facts:
        return self._subject.facts()

    @cached_property
    def _sweep(self) -> Sweep:
        return self._subject.sweep(self._facts, self._part.runs, MemoryCache(), self._facts.kept, Silent())

    @cached_property
    def _units(self) -> list[Unit]:
        return self._sweep.units(self._part.todo, self._part.runs)

    def facts(self) -> tuple[Facts, list[Unit]]:
        """Return the facts of the score and its units."""
        return self._facts, self._units

    @torch.inference_mode()
    def parent(self) -> tuple[Sequence[Sums], Figures | None]:
        """Run the parent. Return its block influence, and the metrics of the child that replacements are made in, if any."""
        self._open(observed=True)
        return self._sweep.influence, self._sweep.cache.figures.get(INCUMBENT)

    @torch.inference_mode()
    def unit(self, number: int) -> list[Measured]:
        """Measure one unit."""
        self._open(packed=True)
        return self._sweep.measured(self._units[number])

    @torch.inference_mode()
    def whole(self, replacements: Sequence[Replacement]) -> Figures:
        """Measure the child with several replacements."""
        self._open()
        return self._subject.with_replaced(replacements)

    @torch.inference_mode()
    def covariances(self, states: States, where: slice) -> Tensor:
        """Return the sum of the pairwise terms over a chunk of positions."""
        self._open()
        parent_PH = self._sweep.parent_PH
        return covariance_sum(self._subject.runner.logits, parent_PH[where], states.all()[:, where])

    def _open(self, *, observed: bool = False, packed: bool = False) -> None:
        """Run the parent, if that is not done. `packed`: leave the layers packed, otherwise as they were loaded."""
        if not self._is_open:
            given = (self._part.inputs.around, self._part.runs, self._workers)
            self._sweep.open(*given, observed=observed)
            self._is_open = True
        if packed and not self._is_packed:
            self._packed.enter_context(self._subject.runner.packed())
        if self._is_packed and not packed:
            self._packed.close()
        self._is_packed = packed


class OnWorkers:
    """A `scoring.scorer.Scorer` on the workers of a cluster."""

    def __init__(
        self, teams: Teams, inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]
    ) -> None:
        """Ask a worker for the facts. Raises DiagnosticError: those of `Subject`, and failures of the cluster."""
        self._teams, self._inputs, self._todo, self._runs = teams, inputs, todo, runs
        ((_, (self.facts, self._units)),) = teams.run([Task.call("facts", "facts")])
        self.influence: Sequence[Sums] = ()

    def measure(self, known: FiguresCache, rows: Kept) -> None:
        """See `Scorer`."""
        inputs, around = self._inputs, self._inputs.around
        wanted = [n for n, unit in enumerate(self._units) if not is_known(unit, known)]
        inputs.progress.advance(sum(map(len, self._units)) - sum(len(self._units[n]) for n in wanted))
        tasks = [Task.call("parent", "parent"), *(Task.call(n, "unit", n) for n in wanted)]
        for task, result in self._teams.run(tasks):
            if task.name == "parent":
                self.influence, child = result
                if around is not None and INCUMBENT not in known.figures:
                    known.add(INCUMBENT, child)
            else:
                unit = self._units[task.name]
                fresh = [
                    None if figures_name(scored) in known.figures else each
                    for (_, scored), each in zip(unit, result, strict=True)
                ]
                keep(unit, fresh, rows, known, inputs.progress, inputs.method.metric)
        order = [*([] if around is None else [INCUMBENT]), *names_of(self._units)]
        known.restore_order(order, shuffled=len(wanted) > 0)

    def wholes(self, children: Sequence[Sequence[Replacement]]) -> Iterator[tuple[int, Figures]]:
        """See `Scorer`."""
        for task, figures in self._teams.run([Task.call(n, "whole", c) for n, c in enumerate(children)]):
            yield task.name, figures

    def covariances(self, states: States) -> Tensor:
        """See `Scorer`. Chunks are added in the order of one process."""
        shape = states.all().shape
        found = chunks(shape, self.facts.vocabulary)
        tasks = [Task.call(n, "covariances", states, where) for n, where in enumerate(found)]
        parts = {task.name: part for task, part in self._teams.run(tasks)}
        total = torch.zeros(shape[0], shape[0], dtype=torch.float64)
        for number in range(len(found)):
            total += parts[number]
        return total / shape[1]
