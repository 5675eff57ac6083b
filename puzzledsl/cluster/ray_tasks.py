"""Run tasks on the workers of a Ray cluster, whichever come and go meanwhile.

Tasks are handed out in order, to workers that are free. When a worker is lost, its unfinished tasks are handed out again first.
New workers start while tasks wait and there is room for them, also on machines that join later. A team whose members keep state
is lost as a whole with any of them.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Cluster, Executor, NoWorkers, Task, TeamSpec, WorkerLost, WorkersKeepDying
from puzzledsl.cluster.workers import Team, Workers

MAX_LOSSES = 5
"""The run fails when more teams than this are lost without a finished task in between."""
MAX_TRIES = 3
"""The run fails when a task has ended this many teams that were at work on it."""
LOOK_S = 2.0
"""Seconds between two looks for free workers."""
WAIT_S = 1.0
"""Longest wait for a result before looking for workers again."""
START_S = 300.0
"""Seconds that the processes of a team have to start."""
ALONE_S = 60.0
"""Seconds without any free worker and without a team that may work, after which the run fails."""


class RayExecutor(Executor):
    """Provider of the workers of a Ray cluster."""

    is_local = False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.on = cluster, cluster.on

    @contextmanager
    def open(self, spec: TeamSpec, progress: Progress) -> Iterator[Any]:
        """See `Executor`. Raises DiagnosticError: those of connecting."""
        with self.cluster.session():
            given = Workers(self.cluster), spec
            teams: RayTeams | RayTeam = RayTeam(*given) if spec.size else RayTeams(*given, progress)
            try:
                yield teams
            finally:
                teams.end()

    def settled(self) -> int:
        """See `Executor`."""
        if count := Workers(self.cluster).settled():
            return count
        raise DiagnosticError(NoWorkers(None, on=self.on))


class RayTeam:
    """The only team of a spec: tasks in order, as many under way as keep all members busy."""

    def __init__(self, workers: Workers, spec: TeamSpec) -> None:
        self._workers, self._ray = workers, workers.cluster.ray
        assert spec.size is not None
        self._spec, self._size = spec, spec.size
        self._team: Team | None = None

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Teams`."""
        if self._team is None:
            self._team = self._workers.start(self._spec.make, self._size, self._spec.threads)
        if self._team is None:
            raise WorkerLost("it left before it began")
        under_way: deque[tuple[Task, Any]] = deque()
        for task in tasks:
            under_way.append((task, _submit(self._team, task)))
            if len(under_way) >= 2 * self._size:
                yield self._arrived(*under_way.popleft())
        while under_way:
            yield self._arrived(*under_way.popleft())

    def _arrived(self, task: Task, handle: Any) -> tuple[Task, Any]:
        try:
            return task, self._ray.get(handle)
        except Exception as error:  # everything that a worker raises, and its loss
            if (reason := self._workers.loss(error)) is not None:
                raise WorkerLost(reason) from error
            raise self._workers.mistake(error) from None

    def end(self) -> None:
        """End all members."""
        if self._team is not None:
            self._workers.end(self._team)


@dataclass(eq=False)
class _AtWork:
    """A worker, the numbers of its tasks from the oldest to the newest, and the handles of its start."""

    team: Team
    opening: set[Any] = field(default_factory=set)
    tasks: list[int] = field(default_factory=list)
    is_lost: bool = False
    is_alike: bool = True


class RayTeams:
    """The workers of one spec, which come and go while lists of tasks run."""

    def __init__(self, workers: Workers, spec: TeamSpec, progress: Progress) -> None:
        self._workers, self._ray, self._on = workers, workers.cluster.ray, workers.cluster.on
        self._spec, self._progress = spec, progress
        self._tasks: Sequence[Task] = ()
        self._waiting: list[int] = []  # a heap
        self._at_work: list[_AtWork] = []
        self._handles: dict[Any, tuple[_AtWork, int | None]] = {}
        self._losses, self._tries = 0, Counter[int]()
        self._looked = self._without = time.monotonic()
        self._kind: str | None = None

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Teams`. Raises DiagnosticError: NoWorkers, WorkersKeepDying."""
        if not (tasks := list(tasks)):
            return
        self._tasks, self._waiting, self._tries = tasks, list(range(len(tasks))), Counter[int]()
        self._looked = self._without = time.monotonic()
        idle = len(self._at_work)
        if len(tasks) > idle:
            self._grow(self._workers.settled(len(tasks) - idle))
        left = len(tasks)
        while left:
            self._look_for_workers()
            self._hand_out()
            for number, result in self._finished():
                left -= 1
                yield tasks[number], result

    def end(self) -> None:
        """End all workers."""
        for at_work in self._at_work:
            self._workers.end(at_work.team)
        self._at_work = []

    def _look_for_workers(self) -> None:
        now = time.monotonic()
        if any(at_work.is_alike for at_work in self._at_work):
            self._without = now
        elif now - self._without > ALONE_S:
            raise DiagnosticError(NoWorkers(None, on=self._on))
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        for late in [a for a in self._at_work if a.opening and now - a.team.since > START_S and not a.tasks]:
            self._lose(late, "its processes did not start")
        starting = any(at_work.opening for at_work in self._at_work)
        if self._waiting and not starting:
            self._grow(self._workers.free())

    def _grow(self, free: int) -> None:
        """Start free workers, as many as there are tasks that wait."""
        spec = self._spec
        if spec.alone:
            used = {at_work.team.node for at_work in self._at_work}
            for team in self._workers.start_alone(spec.make, spec.threads, used):
                self._open(team)
            return
        idle = sum(not at_work.tasks for at_work in self._at_work)
        for _ in range(min(free, len(self._waiting) - idle)):
            new = self._workers.start(spec.make, 1, spec.threads)
            if new is None:
                break
            self._open(new)
        count = len(self._at_work)
        if free and count:
            text = f"work on {count} {self._workers.unit}{'s' * (count > 1)}"
            self._progress.log("workers", text=text, on=self._on, workers=count)

    def _open(self, team: Team) -> None:
        at_work = _AtWork(team)
        self._at_work.append(at_work)
        handles = team.ready()
        if self._spec.alone:
            handles.append(team.call(0, "kind"))
        at_work.opening = set(handles)
        self._handles |= dict.fromkeys(handles, (at_work, None))

    def _lose(self, at_work: _AtWork, reason: str) -> None:
        """End a team. Its unfinished tasks come back one by one, as their handles fail."""
        if at_work.is_lost:
            return
        at_work.is_lost = True
        self._at_work.remove(at_work)
        self._workers.end(at_work.team)
        self._losses += 1
        self._progress.log("worker_lost", text=f"a worker was lost ({reason}); its tasks go to others")
        if at_work.tasks:
            self._tries[at_work.tasks[0]] += 1
        worst = max(self._tries.values(), default=0)
        if self._losses > MAX_LOSSES or worst >= MAX_TRIES:
            count = max(self._losses, worst)
            raise DiagnosticError(WorkersKeepDying(None, on=self._on, count=count, reason=reason))

    def _hand_out(self) -> None:
        """Give tasks to the workers with the fewest, up to two each, so that none waits for the driver."""
        ready = [a for a in self._at_work if not a.opening and a.is_alike]
        most = 1 if self._spec.alone else 2
        while self._waiting and (free := [a for a in ready if len(a.tasks) < most]):
            at_work = min(free, key=lambda a: len(a.tasks))
            number = heapq.heappop(self._waiting)
            at_work.tasks.append(number)
            self._handles[_submit(at_work.team, self._tasks[number])] = (at_work, number)

    def _finished(self) -> Iterator[tuple[int, Any]]:
        """Yield the results that are there now, or that come within WAIT_S."""
        if not self._handles:
            time.sleep(WAIT_S / 4)
            return
        handles = list(self._handles)
        done, _ = self._ray.wait(handles, num_returns=1, timeout=WAIT_S)
        if done:
            done, _ = self._ray.wait(handles, num_returns=len(handles), timeout=0)
        for handle in done:
            at_work, number = self._handles.pop(handle)
            try:
                result = self._ray.get(handle, timeout=START_S)
            except Exception as error:  # everything that a worker raises, and its loss
                reason = self._workers.loss(error)
                if at_work.is_lost:
                    reason = reason or "its team was ended"
                if reason is None:
                    raise self._workers.mistake(error) from None
                self._lose(at_work, reason)
                if number is not None:
                    heapq.heappush(self._waiting, number)
                continue
            if number is None:
                self._opened(at_work, handle, result)
            else:
                at_work.tasks.remove(number)
                self._losses = 0
                yield number, result

    def _opened(self, at_work: _AtWork, handle: Any, result: Any) -> None:
        at_work.opening.discard(handle)
        if self._spec.alone and isinstance(result, str):
            self._kind = self._kind or result
            if result != self._kind:
                at_work.is_alike = False  # it keeps its place, so that it is not started again
                text = f"a worker is not used: it is a {result}, the others are {self._kind}"
                self._progress.log("other_device", text=text)


def _submit(team: Team, task: Task) -> Any:
    """Queue a task's steps. Results go from member to member through the object store. Return the last one's handle."""
    handle: tuple[Any, ...] = ()
    for step in task.steps:
        handle = (team.call(step.member, step.method, *handle, *step.arguments),)
    return handle[0]
