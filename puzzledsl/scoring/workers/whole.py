"""A worker that has the whole parent, and measures the units that it is given.

A unit's metrics are the same bytes wherever they are measured: a worker computes the parent's stream up to the unit's layer
by itself, and uses one thread, as `models.threads` does. Units are handed out by ascending layer, so that a worker
climbs the parent once.

Common part of the objects on workers: one score's subject, its facts and its units, each made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.progress import Silent
from puzzledsl.cluster.tasks import LocalExecutor, Task, TeamSpec
from puzzledsl.models.threads import Workers
from puzzledsl.scoring.figures_cache import MemoryCache
from puzzledsl.scoring.influence import Sums
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.subject import Facts, Subject
from puzzledsl.scoring.sweep.sweep import Measured, Sweep, Unit
from puzzledsl.scoring.table import INCUMBENT


class ToMeasure(Protocol):
    """Replacements and runs of layers that a score measures."""

    @property
    def todo(self) -> Sequence[Replacement]:
        """Single replacements."""
        ...

    @property
    def runs(self) -> Sequence[Run]:
        """Runs of layers."""
        ...


class SubjectOnWorker:
    """A subject on a worker, with the threads that measure it."""

    def __init__(self, wanted: ToMeasure, subject: Subject) -> None:
        """Start the threads, which live as long as the process: it does nothing else."""
        self._wanted, self._subject = wanted, subject
        self._workers = Workers(subject.runner.device)
        self._workers.__enter__()

    @cached_property
    def _facts(self) -> Facts:
        return self._subject.facts()

    @cached_property
    def _sweep(self) -> Sweep:
        return self._subject.sweep(self._facts, self._wanted.runs, MemoryCache(), self._facts.kls, Silent())

    @cached_property
    def _units(self) -> list[Unit]:
        return self._sweep.units(self._wanted.todo, self._wanted.runs)

    def facts(self) -> tuple[Facts, list[Unit]]:
        """Return the facts of the score and its units."""
        return self._facts, self._units


@dataclass(frozen=True)
class WholeParent:
    """Tasks for workers that have the whole parent, and the maker of a worker's `Measurer`."""

    inputs: ScoreInputs
    todo: Sequence[Replacement]
    runs: Sequence[Run]

    def spec(self) -> TeamSpec:
        """Return teams of one worker each. A worker has one thread, as each worker of one process has."""
        return TeamSpec(self, threads=1)

    def __call__(self, member: int) -> Measurer:
        """Return a new measurer."""
        return Measurer(self)

    def facts(self) -> Task:
        """Return the task whose result are the facts of the score and its units."""
        return Task.call("facts", "facts")

    def parent(self) -> Task:
        """Return the task whose result are the parent's block influence and the metrics of the child around."""
        return Task.call("parent", "parent")

    def unit(self, number: int, unit: Unit) -> Task:
        """Return the task that measures a unit."""
        return Task.call(number, "unit", number)

    def whole(self, number: int, replacements: Sequence[Replacement]) -> Task:
        """Return the task that measures a child."""
        return Task.call(number, "whole", replacements)

    def end(self, site: EndName, dtype: PrecisionName) -> Task:
        """Return the task that measures an end in a storage type."""
        return Task.call("end", "end", site, dtype)


class Measurer(SubjectOnWorker):
    """A worker's object: measures the units and whole children that it is asked for."""

    def __init__(self, part: WholeParent) -> None:
        """Load the parent. Raises DiagnosticError: those of `Subject`."""
        super().__init__(part, Subject(part.inputs))
        self._part = part
        self._packed = ExitStack()
        self._is_open, self._is_packed = False, False

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
    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """Measure the parent with one end in a storage type."""
        self._open()
        return self._subject.with_end(site, dtype)

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


def sent(inputs: ScoreInputs) -> ScoreInputs:
    """Return the inputs as a worker gets them: without what belongs to this process, and with whole paths."""
    return replace(
        inputs,
        parent_dir=inputs.parent_dir.resolve(),
        base=inputs.base.resolve(),
        library=type(inputs.library)(inputs.library.root.resolve()),
        work=inputs.work.resolve(),
        progress=Silent(),
        executor=LocalExecutor(),
    )
