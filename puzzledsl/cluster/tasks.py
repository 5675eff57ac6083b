"""Named tasks for workers, their execution in this process, and the connection to a Ray cluster.

A stage describes its work as a `TeamSpec`, which builds workers, and independent `Task`s. An `Executor` runs the tasks on the
workers that there are and yields each result as soon as it is ready. The stage stores results and adds them up in the order of
its tasks, so that no figure depends on the number of workers. A stage that runs again asks only for tasks whose results are not
stored yet. If workers keep state, such as pieces in training, they form one team, and each task goes from member to member like a
batch in a pipeline. The connection is opened when first needed and shared by all stages of a run.
"""

import importlib
import os
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from puzzledsl.base.diagnostics import DiagnosticError, Mistake
from puzzledsl.base.progress import Progress, Silent

Inputs = TypeVar("Inputs")
"""Type of the inputs of a stage: a dataclass with fields `progress` and `executor`."""


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
    """Steps that follow each other: each gets the result of the step before as its first argument. `name` is the stage's own.

    Only a team's tasks have several steps. The last result may be an iterator: lazy in this process, a list from another.
    """

    name: Any
    steps: tuple[Step, ...]

    @classmethod
    def call(cls, name: Any, method: str, *arguments: Any) -> Self:
        """Return a task of one step, for any worker."""
        return cls(name, (Step(method, arguments),))


@dataclass(frozen=True)
class TeamSpec:
    """Workers, each with an object that `make(member)` builds in the worker's process.

    `threads`: torch threads of a worker, which change the last bits of large matrix products; None: as in this process. `alone`:
    a worker has a GPU or a machine for itself and does one task at a time; workers whose method `kind` names another device than
    the first worker's are not used. `size`: the number of members of the one team, which keep their state from task to task;
    None: as many workers start as are free and have tasks, and each task goes to any of them.
    """

    make: Callable[[int], Any]
    threads: int | None = None
    alone: bool = False
    size: int | None = None


class Teams(Protocol):
    """Running workers. They stay between calls of `run`, with everything that they have loaded."""

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """Yield each task with its last step's result, as tasks finish. Tasks begin in order. Raises DiagnosticError.

        With a `size`, the team yields them in order, and raises WorkerLost if a member and its state are lost.
        """


def as_sent(inputs: Inputs, **changes: object) -> Inputs:
    """Return a stage's inputs for a worker: absolute paths, no progress, a local executor, and `changes` of other fields."""
    given: Any = inputs
    values = ((field.name, getattr(given, field.name)) for field in fields(given))
    paths = {name: value.resolve() for name, value in values if isinstance(value, Path)}
    sent: Inputs = replace(given, **paths, progress=Silent(), executor=Executor(), **changes)
    return sent


class Executor:
    """Provider of workers. This class itself runs tasks one after the other in this process; subclasses run them elsewhere."""

    is_local = True
    """True if workers live in this process."""
    on = ""

    @contextmanager
    def open(self, spec: TeamSpec, progress: Progress) -> Iterator[Any]:
        """Return a context manager that gives the `Teams` of a spec. Leaving the context ends the workers."""
        with ExitStack() as left:
            yield LocalTeam(spec, left)

    def settled(self) -> int:
        """Wait until the number of free workers no longer changes, and return it. Raises DiagnosticError (NoWorkers) for 0."""
        return 1


class LocalTeam:
    """`Teams` in this process. The first task builds the members; leaving `left` closes generators among the results."""

    def __init__(self, spec: TeamSpec, left: ExitStack) -> None:
        self._spec, self._left = spec, left
        self.members: list[Any] = []

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Teams`."""
        for task in tasks:
            self.members = self.members or [self._spec.make(member) for member in range(self._spec.size or 1)]
            result: tuple[Any, ...] = ()
            for step in task.steps:
                result = (getattr(self.members[step.member], step.method)(*result, *step.arguments),)
            if isinstance(result[0], Generator):
                self._left.callback(result[0].close)
            yield task, result[0]


RayNotInstalled = Mistake(
    "E1421",
    "`--on {on}` needs the Python package `ray`, which is not installed",
    "`pip install 'puzzledsl[ray]'` here and on every machine of the cluster, or leave out `--on`",
)
ClusterNotReached = Mistake(
    "E1422",
    "no Ray cluster answers at `{on}`: {reason}",
    "`--on local`, `--on auto` inside a cluster, or `--on ray://HOST:10001`",
)
NoWorkers = Mistake(
    "E1423",
    "the Ray cluster at `{on}` has no free worker",
    "start workers with `ray start --address HEAD:6379`, then run again: what is finished is kept",
)
WorkersKeepDying = Mistake(
    "E1424",
    "workers of `{on}` died {count} times without progress: {reason}",
    "most often memory: give workers more, or the cluster more workers; what is finished is kept",
)
PiecesDontFit = Mistake(
    "E1425",
    "a worker of `{on}` has {room}, and needs {needed} to train one piece of one layer",
    "give the cluster more workers, or workers more memory; or leave the largest alternatives out of the space",
)


PATIENCE_S = 10.0
"""Seconds that a cluster has to accept a connection."""


class Cluster:
    """A Ray cluster. `on`: `local` starts one on this machine, `auto` uses the one that runs on it; else its address."""

    def __init__(self, on: str) -> None:
        self.on = on
        self._ray: Any = None
        self._sessions, self._is_own = 0, False

    @contextmanager
    def session(self) -> Iterator[None]:
        """Keep the connection, which `ray` opens, until the outermost session ends. One that others opened stays open."""
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1
            if self._sessions == 0:
                if self._is_own:
                    self._ray.shutdown()
                self._ray, self._is_own = None, False

    @property
    def ray(self) -> Any:
        """The package `ray`, connected. Raises DiagnosticError: RayNotInstalled, ClusterNotReached."""
        if self._ray is None:
            self._ray = self._connect()
        return self._ray

    def _connect(self) -> Any:
        try:
            ray = importlib.import_module("ray")
        except ImportError as error:
            raise DiagnosticError(RayNotInstalled(None, on=self.on)) from error
        if ray.is_initialized():
            return ray
        _must_answer(self.on)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        here = {"num_cpus": os.cpu_count(), "include_dashboard": False} if self.on == "local" else {}
        try:
            ray.init(address=self.on, log_to_driver=False, logging_level="error", **here)
        except Exception as error:  # Ray raises a bare one where a node does not start in time
            raise DiagnosticError(ClusterNotReached(None, on=self.on, reason=first_line(error))) from error
        self._is_own = True
        return ray


def _must_answer(on: str) -> None:
    """Raise DiagnosticError (ClusterNotReached) if nothing listens at an address with a port: Ray would retry for minutes."""
    host, colon, port = on.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DiagnosticError(ClusterNotReached(None, on=on, reason=reason)) from error


def first_line(error: object) -> str:
    """Return the first line of an error's message without its full stop; the type's name if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
