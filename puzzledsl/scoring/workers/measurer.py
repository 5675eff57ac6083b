"""Common part of the objects on workers: one score's subject, its facts and its units, each made once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from puzzledsl.base.progress import Silent
from puzzledsl.scoring.figures_cache import MemoryCache
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.subject import Facts, Subject
from puzzledsl.scoring.sweep.sweep import Sweep
from puzzledsl.scoring.sweep.threads import Workers
from puzzledsl.scoring.sweep.units import Unit


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
