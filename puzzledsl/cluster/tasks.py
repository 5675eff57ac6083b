"""Named tasks for teams of workers, and their execution in this process.

A stage describes its work as a `TeamSpec`, which builds a team of workers, and independent `Task`s. An `Executor` runs the
tasks on as many teams as there are and yields each result as soon as it is there. The stage writes results to its own store and
adds them up in the order of its tasks, so that nothing depends on the number of workers. A stage that is run again asks only
for the tasks whose results are not stored yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from puzzledsl.base.progress import Progress


class WorkerLost(Exception):
    """A worker died, or a result that it held is gone. The message describes it for the log."""


@dataclass(frozen=True)
class Step:
    """A call of a method of one member of a team. Arguments and result are picklable, with tensors on any device."""

    method: str
    arguments: tuple[Any, ...] = ()
    member: int = 0


@dataclass(frozen=True)
class Task:
    """Steps that follow each other: each one gets the result of the step before as its first argument."""

    name: Any
    steps: tuple[Step, ...]

    @classmethod
    def call(cls, name: Any, method: str, *arguments: Any) -> Task:
        """Return a task of one step, for a team of one worker."""
        return cls(name, (Step(method, arguments),))


@dataclass(frozen=True)
class TeamSpec:
    """A team of `size` workers: `make(member)` builds a member's object in the member's process.

    `opening`: tasks that each new team runs first; their results are dropped. `threads`: torch threads of a worker, on which the
    bits of large matrix products depend; None: those of this process. `alone`: a worker has a GPU or a machine for itself, does
    one task at a time, and runs on the kind of device that its method `kind` names, the first worker's.
    """

    make: Callable[[int], Any]
    size: int = 1
    opening: tuple[Task, ...] = ()
    threads: int | None = None
    alone: bool = False


class Teams(Protocol):
    """Teams that stay between lists of tasks, with everything that they have loaded."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
        """Yield each task with the last step's result, in the order in which tasks are finished.

        Earlier tasks begin earlier. Raises DiagnosticError: that of a task, and failures of a cluster.
        """


class Executor(Protocol):
    """Provider of teams, here or elsewhere."""

    @property
    def is_local(self) -> bool:
        """True if members are built in this process."""

    def open(self, spec: TeamSpec, progress: Progress) -> AbstractContextManager[Teams]:
        """Return a context with teams of such a team; their processes end with it."""


class LocalExecutor:
    """Runs tasks one after the other in this process."""

    is_local = True

    def open(self, spec: TeamSpec, progress: Progress) -> AbstractContextManager[Teams]:
        """See `Executor`."""
        return nullcontext(_LocalTeam(spec))


class _LocalTeam:
    """One team, built for its first task."""

    def __init__(self, spec: TeamSpec) -> None:
        self._spec = spec
        self._members: list[Any] = []

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Teams`."""
        if tasks and not self._members:
            self._members = [self._spec.make(member) for member in range(self._spec.size)]
            for task in self._spec.opening:
                _done(self._members, task)
        for task in tasks:
            yield task, _done(self._members, task)


def _done(team: Sequence[Any], task: Task) -> Any:
    result: tuple[Any, ...] = ()
    for step in task.steps:
        result = (getattr(team[step.member], step.method)(*result, *step.arguments),)
    return result[0]
