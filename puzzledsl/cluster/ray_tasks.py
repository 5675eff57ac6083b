"""Run tasks on the workers of a Ray cluster. Workers may join and leave during the run.

Tasks are handed out in order, to workers that are free. When a worker is lost, its unfinished tasks are handed out again first.
New workers start while tasks wait and there is room for them, also on machines that join later. A team whose members keep state
is lost as a whole if one of its members is lost; its members are packed onto as few machines as possible.

A worker is an actor. It takes a GPU, or a CPU if the cluster has no GPU. CUDA errors and exhausted memory count as the loss of
the worker, because its process cannot be trusted afterwards. Tensors travel as NumPy arrays: Ray's store maps these into the
reader's memory, and pickles tensors in band, at a tenth of the speed.
"""

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import (
    Cluster,
    Executor,
    NoWorkers,
    Task,
    TeamSpec,
    WorkerLost,
    WorkersKeepDying,
    first_line,
)

MAX_LOSSES = 5
"""The run fails when more workers than this are lost without a finished task in between."""
MAX_TRIES = 3
"""The run fails when this many workers were lost while they worked on one task."""
LOOK_S = 2.0
"""Seconds between two looks for free workers."""
WAIT_S = 1.0
"""Longest wait for a result before looking for workers again."""
START_S = 300.0
"""Seconds that the processes of a team have to start."""
ALONE_S = 60.0
"""The run fails after this many seconds without any usable worker."""


_VIEWED = {1: torch.uint8, 2: torch.int16}
"""Bytes of an element -> the integer dtype that carries a dtype NumPy lacks (bfloat16, float8)."""


def array_of(tensor: Tensor) -> tuple[NDArray[Any], str]:
    """Return a tensor's content on the CPU, and the name of its dtype."""
    held = tensor.detach().cpu().contiguous()
    try:
        array = held.numpy()
    except TypeError:
        array = held.view(_VIEWED[held.itemsize]).numpy()
    return array, str(held.dtype).removeprefix("torch.")


def tensor_of(carried: tuple[NDArray[Any], str]) -> Tensor:
    """Invert `array_of`. The tensor is a copy: Ray's memory is read-only, and a write to it would end the process."""
    array, dtype = carried
    return torch.from_numpy(np.array(array)).view(getattr(torch, dtype))


def carry_tensors() -> None:
    """Make Ray send tensors from and to this process as NumPy arrays from now on, also those inside other objects."""
    from ray.util import register_serializer

    register_serializer(Tensor, serializer=array_of, deserializer=tensor_of)


SETTLED_S, POLL_S = 10.0, 0.25
"""Seconds of `Workers.settled`: the longest wait, and the interval between two looks at the free resources."""
PLACED_S = 60.0
"""Seconds that Ray has to find room for a team of several workers."""


class Member:
    """Ray actor that holds the object of a worker. The first call builds it, so that its errors reach a caller."""

    def __init__(self, make: Callable[[int], Any], member: int, threads: int) -> None:
        carry_tensors()
        torch.set_num_threads(threads)
        self._make, self._member, self._part = make, member, None

    def ready(self) -> None:
        """Do nothing: the result shows that the process is up."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object and return its result; an iterator as a list."""
        if self._part is None:
            self._part = self._make(self._member)
        result = getattr(self._part, method)(*arguments)
        return [*result] if isinstance(result, Iterator) else result


@dataclass(eq=False)
class Team:
    """One worker or several that work together: `actors` of `Member`, in the order of the members."""

    actors: Sequence[Any]
    group: Any = None
    node: str = ""
    """Ray's id of the machine that the team has for itself; empty if it shares machines."""
    since: float = field(default_factory=time.monotonic)
    opening: set[Any] = field(default_factory=set)
    """Handles of the calls that must return before it gets tasks."""
    tasks: list[int] = field(default_factory=list)
    """Numbers of its unfinished tasks, the oldest first."""
    is_alike: bool = True

    def call(self, member: int, method: str, *arguments: Any) -> Any:
        """Queue a call, after all earlier ones of this member. Arguments may be handles of earlier calls."""
        return self.actors[member].call.remote(method, *arguments)

    def submit(self, task: Task) -> Any:
        """Queue a task's steps; return the handle of the last one's result. Results go from step to step through Ray's store."""
        handle: tuple[Any, ...] = ()
        for step in task.steps:
            handle = (self.call(step.member, step.method, *handle, *step.arguments),)
        return handle[0]


class Workers:
    """Starts and ends workers of a cluster, and distinguishes the loss of a worker from an error in its task."""

    def __init__(self, cluster: Cluster) -> None:
        """Connect to the cluster. Raises DiagnosticError if that fails."""
        self.cluster, _ = cluster, cluster.ray
        carry_tensors()

    @property
    def unit(self) -> str:
        """The resource that a worker takes: "GPU", or "CPU" in a cluster without GPUs."""
        return "GPU" if self.cluster.ray.cluster_resources().get("GPU") else "CPU"

    def free(self) -> int:
        """Return how many more workers could start now: the free units (GPUs or CPUs) of the cluster."""
        return int(self.cluster.ray.available_resources().get(self.unit, 0))

    def settled(self, most: int | None = None) -> int:
        """Wait until `free` is at least `most` or stops changing, as Ray frees units of ended workers late; return it."""
        end, seen, same = time.monotonic() + SETTLED_S, self.free(), 0
        while time.monotonic() < end and (most is None or seen < most) and (same < 4 or not seen):
            time.sleep(POLL_S)
            now = self.free()
            seen, same = now, same + 1 if now == seen else 0
        return seen

    def start(self, make: Callable[[int], Any], size: int, threads: int | None = None) -> Team | None:
        """Start a team of `size` workers, packed onto as few machines as possible. None: several find no room in PLACED_S."""
        unit = self.unit
        resources = {"num_cpus": int(unit == "CPU"), "num_gpus": int(unit == "GPU")}
        if size == 1:
            return Team([self._actor(make, 0, threads, **resources)])
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = placement_group([{unit: 1}] * size, strategy="PACK")
        if not group.wait(timeout_seconds=PLACED_S):
            remove_placement_group(group)
            return None
        actors = []
        for member in range(size):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=member)
            actors.append(self._actor(make, member, threads, scheduling_strategy=place, **resources))
        return Team(actors, group)

    def start_alone(
        self, make: Callable[[int], Any], threads: int | None, used: Collection[str]
    ) -> Iterator[Team]:
        """Yield new workers that share no processor: one for each free GPU, or for each machine (by id) not in `used`."""
        if self.unit == "GPU":
            for _ in range(self.free()):
                yield Team([self._actor(make, 0, threads, num_cpus=0, num_gpus=1)])
            return
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for node in self.cluster.ray.nodes():
            cpus = node["Resources"].get("CPU", 0)
            if node["Alive"] and cpus and (name := node["NodeID"]) not in used:
                here = NodeAffinitySchedulingStrategy(name, soft=False)
                given = {"num_cpus": cpus, "scheduling_strategy": here}
                yield Team([self._actor(make, 0, threads, **given)], node=name)

    def _actor(self, make: Callable[[int], Any], member: int, threads: int | None, **options: Any) -> Any:
        actor = self.cluster.ray.remote(Member).options(**options, max_restarts=0, max_task_retries=0)
        return actor.remote(make, member, threads or torch.get_num_threads())

    def end(self, team: Team) -> None:
        """End a team's processes."""
        for actor in team.actors:
            self.cluster.ray.kill(actor)
        if team.group is not None:
            from ray.util.placement_group import remove_placement_group

            remove_placement_group(team.group)

    def loss(self, error: BaseException) -> str | None:
        """Return a line that describes the loss of a worker; None if `error` is not such a loss."""
        errors, cause = self.cluster.ray.exceptions, cause_of(self.cluster.ray, error)
        is_rays = isinstance(cause, errors.RayError) and not isinstance(cause, errors.RayTaskError)
        return first_line(cause) if is_rays or is_of_hardware(cause) else None

    def mistake(self, error: BaseException) -> BaseException:
        """Return the error to raise here for a call that failed: a worker's own DiagnosticError, else `error`."""
        cause = cause_of(self.cluster.ray, error)
        return cause if isinstance(cause, DiagnosticError) else error


def cause_of(ray: Any, error: BaseException) -> BaseException:
    """Return the error that a worker raised first, without the RayTaskErrors that wrap it."""
    while isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def is_of_hardware(error: BaseException) -> bool:
    """Return True for exhausted memory and CUDA errors, after which a process cannot be trusted."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    accelerator = getattr(torch, "AcceleratorError", None)
    if accelerator is not None and isinstance(error, accelerator):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith(("CUDA error", "CUDA out of memory"))


class RayExecutor(Executor):
    """An `Executor` that runs tasks on the workers of a Ray cluster."""

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
    """The one team of a spec with a `size`. Tasks run in order, up to two a member at once, so that none is idle."""

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
            under_way.append((task, self._team.submit(task)))
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


class RayTeams:
    """The workers of a spec without a `size`, each a team of one. They may join and leave while tasks run."""

    def __init__(self, workers: Workers, spec: TeamSpec, progress: Progress) -> None:
        self._workers, self._ray, self._on = workers, workers.cluster.ray, workers.cluster.on
        self._spec, self._progress = spec, progress
        self._tasks: Sequence[Task] = ()
        self._waiting: list[int] = []  # a heap
        self._teams: list[Team] = []
        self._handles: dict[Any, tuple[Team, int | None]] = {}
        self._losses, self._tries = 0, Counter[int]()
        self._looked = self._without = time.monotonic()
        self._kind: str | None = None

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """See `Teams`. Raises DiagnosticError: NoWorkers, WorkersKeepDying."""
        if not (tasks := list(tasks)):
            return
        self._tasks, self._waiting, self._tries = tasks, list(range(len(tasks))), Counter[int]()
        self._looked = self._without = time.monotonic()
        if len(tasks) > (idle := len(self._teams)):
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
        for team in self._teams:
            self._workers.end(team)
        self._teams = []

    def _look_for_workers(self) -> None:
        now = time.monotonic()
        if any(team.is_alike for team in self._teams):
            self._without = now
        elif now - self._without > ALONE_S:
            raise DiagnosticError(NoWorkers(None, on=self._on))
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        for late in [team for team in self._teams if team.opening and now - team.since > START_S]:
            self._lose(late, "its processes did not start")
        if self._waiting and not any(team.opening for team in self._teams):
            self._grow(self._workers.free())

    def _grow(self, free: int) -> None:
        """Start up to `free` workers, as many as tasks wait for; with `alone`, one for each GPU or machine that is free."""
        make, threads = self._spec.make, self._spec.threads
        if self._spec.alone:
            for team in self._workers.start_alone(make, threads, {team.node for team in self._teams}):
                self._open(team)
            return
        idle = sum(not team.tasks for team in self._teams)
        for _ in range(min(free, len(self._waiting) - idle)):
            if (new := self._workers.start(make, 1, threads)) is not None:
                self._open(new)
        if free and (count := len(self._teams)):
            text = f"work on {count} {self._workers.unit}{'s' * (count > 1)}"
            self._progress.log("workers", text=text, on=self._on, workers=count)

    def _open(self, team: Team) -> None:
        self._teams.append(team)
        team.opening = {team.actors[0].ready.remote()}
        if self._spec.alone:
            team.opening.add(team.call(0, "kind"))
        self._handles |= dict.fromkeys(team.opening, (team, None))

    def _lose(self, team: Team, reason: str) -> None:
        """End a worker and queue its unfinished tasks again. Raises DiagnosticError after too many losses."""
        self._teams.remove(team)
        for number in team.tasks:
            heapq.heappush(self._waiting, number)
        self._handles = {handle: each for handle, each in self._handles.items() if each[0] is not team}
        self._workers.end(team)
        self._losses += 1
        self._progress.log("worker_lost", text=f"a worker was lost ({reason}); its tasks go to others")
        self._tries.update(team.tasks[:1])
        worst = max(self._tries.values(), default=0)
        if self._losses > MAX_LOSSES or worst >= MAX_TRIES:
            count = max(self._losses, worst)
            raise DiagnosticError(WorkersKeepDying(None, on=self._on, count=count, reason=reason))

    def _hand_out(self) -> None:
        """Give waiting tasks to the workers with the fewest, up to two each (one with `alone`), so that none is idle."""
        ready = [team for team in self._teams if not team.opening and team.is_alike]
        most = 1 if self._spec.alone else 2
        while self._waiting and (free := [team for team in ready if len(team.tasks) < most]):
            team, number = min(free, key=lambda team: len(team.tasks)), heapq.heappop(self._waiting)
            team.tasks.append(number)
            self._handles[team.submit(self._tasks[number])] = (team, number)

    def _finished(self) -> Iterator[tuple[int, Any]]:
        """Yield number and result of the tasks that are finished now, or finish within WAIT_S. Handles losses of workers."""
        if not self._handles:
            time.sleep(WAIT_S / 4)
            return
        handles = list(self._handles)
        done, _ = self._ray.wait(handles, num_returns=1, timeout=WAIT_S)
        if done:
            done, _ = self._ray.wait(handles, num_returns=len(handles), timeout=0)
        for handle in done:
            if handle not in self._handles:
                continue  # of a worker that is lost meanwhile
            team, number = self._handles.pop(handle)
            try:
                result = self._ray.get(handle, timeout=START_S)
            except Exception as error:  # everything that a worker raises, and its loss
                if (reason := self._workers.loss(error)) is None:
                    raise self._workers.mistake(error) from None
                self._lose(team, reason)
                continue
            if number is not None:
                team.tasks.remove(number)
                self._losses = 0
                yield number, result
                continue
            team.opening.discard(handle)
            if isinstance(result, str) and result != (kind := self._kind or result):
                team.is_alike = False  # it keeps its place, so that it is not started again
                text = f"a worker is not used: it is a {result}, the others are {kind}"
                self._progress.log("other_device", text=text)
            elif isinstance(result, str):
                self._kind = result
