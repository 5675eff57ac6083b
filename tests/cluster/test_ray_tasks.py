"""Tasks are each finished once, whichever workers are lost, join, or turn out to be of another kind. Ray is pretended mostly."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from puzzledsl.base.progress import Silent
from puzzledsl.cluster import ray_tasks
from puzzledsl.cluster.ray_tasks import Member, RayExecutor, RayTeam, RayTeams, Team, Workers, cause_of
from puzzledsl.cluster.tasks import Cluster, Executor, NoWorkers, Step, Task, TeamSpec, WorkerLost
from tests.cluster.ray_here import MARKS
from tests.pieces.train.bld_programs import make_pieces, make_program
from tests.refused import refused

pytestmark = MARKS


class Lost(Exception):
    """The loss of a worker."""


def handle(make: Callable[[], Any]) -> Future[Any]:
    """A result that is there at once, or an error."""
    made: Future[Any] = Future()
    try:
        made.set_result(make())
    except Exception as error:
        made.set_exception(error)
    return made


class Actor:
    """A member in this process. Its worker is lost at the calls that `lost_at` counts, over all workers."""

    calls: Iterator[int] = itertools.count()

    def __init__(self, part: Any, lost_at: frozenset[int]) -> None:
        self._part, self._lost_at, self._is_lost = part, lost_at, False
        self.call = SimpleNamespace(remote=lambda *given: handle(lambda: self._call(*given)))
        self.ready = SimpleNamespace(remote=lambda: handle(lambda: None))

    def _call(self, method: str, *arguments: Any) -> Any:
        if next(Actor.calls) in self._lost_at:
            self._is_lost = True
        if self._is_lost:
            raise Lost("killed")
        return getattr(self._part, method)(*(a.result() if isinstance(a, Future) else a for a in arguments))


class Pretended:
    """`Workers` of a cluster that has `free` workers at the n-th look, the last number from then on."""

    def __init__(self, *free: int, lost_at: frozenset[int] = frozenset()) -> None:
        self._free, self.used, self._lost_at = list(free), 0, lost_at
        self.started: list[Team] = []
        self.unit = "CPU"
        Actor.calls = itertools.count()
        ray = SimpleNamespace(
            wait=lambda handles, num_returns, timeout: (list(handles)[:num_returns], []),
            get=lambda handle, timeout=None: handle.result(),
        )
        self.cluster = SimpleNamespace(ray=ray, on="local")

    def free(self) -> int:
        total = self._free.pop(0) if len(self._free) > 1 else self._free[0]
        return max(0, total - self.used)

    def settled(self, most: int | None = None) -> int:
        return self.free()

    def start(self, make: Callable[[int], Any], size: int, threads: int | None = None) -> Team:
        self.used += size
        self.started.append(Team([Actor(make(member), self._lost_at) for member in range(size)]))
        return self.started[-1]

    def start_alone(self, make: Callable[[int], Any], threads: int | None, used: Any) -> Iterator[Team]:
        for _ in range(self.free()):
            yield self.start(make, 1)

    def end(self, team: Team) -> None:
        self.used -= len(team.actors)

    def loss(self, error: BaseException) -> str | None:
        return str(error) if isinstance(error, Lost) else None

    def mistake(self, error: BaseException) -> BaseException:
        return error


class Part:
    """A worker's object: adds its number to what it gets."""

    numbers = itertools.count()

    def __init__(self, member: int) -> None:
        self.member, self.number = member, next(Part.numbers)

    def double(self, value: int) -> int:
        return 2 * value

    def add(self, value: int, more: int) -> int:
        return value + more + self.member

    def fail(self) -> None:
        raise KeyError("a mistake")

    def kind(self) -> str:
        return "odd" if self.number % 2 else "even"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "LOOK_S", 0.0)
    monkeypatch.setattr(ray_tasks, "WAIT_S", 0.0)


def ray_teams(pretended: Pretended, *, alone: bool = False) -> RayTeams:
    return RayTeams(cast(Workers, pretended), TeamSpec(Part, alone=alone), Silent())


def doubled(pretended: Pretended, count: int) -> list[tuple[int, int]]:
    teams = ray_teams(pretended)
    found = [(cast(int, task.name), result) for task, result in teams.run(doubling(count))]
    teams.end()
    return found


def doubling(count: int) -> list[Task]:
    return [Task.call(n, "double", n) for n in range(count)]


@pytest.mark.parametrize(("free", "tasks"), [(1, 9), (2, 9), (4, 9), (12, 9), (2, 0)])
def test_each_task_is_done_once_by_any_number_of_workers(free: int, tasks: int) -> None:
    """There are no more teams than tasks."""
    pretended = Pretended(free)
    assert sorted(doubled(pretended, tasks)) == [(n, 2 * n) for n in range(tasks)]
    assert len(pretended.started) == min(free, tasks) and pretended.used == 0


@pytest.mark.parametrize("lost", [{0}, {3}, {2, 9}, {4, 5, 6}])
def test_lost_workers_cost_no_task(lost: set[int]) -> None:
    pretended = Pretended(2, lost_at=frozenset(lost))
    assert sorted(doubled(pretended, 12)) == [(n, 2 * n) for n in range(12)]
    assert len(pretended.started) > 2  # others took their place


@pytest.mark.parametrize("free", [(1, 1, 1, 3), (0, 0, 3)])
def test_workers_that_join_get_tasks_without_any_loss(free: tuple[int, ...]) -> None:
    pretended = Pretended(*free)
    assert len(doubled(pretended, 40)) == 40 and len(pretended.started) == 3


def test_a_task_that_ends_every_worker_ends_the_run() -> None:
    found = refused(doubled, Pretended(1, lost_at=frozenset(range(1, 1000))), 4)
    assert found.code == "E1424" and "killed" in found.message


def test_a_mistake_is_raised_and_no_loss() -> None:
    with pytest.raises(KeyError, match="a mistake"):
        list(ray_teams(Pretended(2)).run([Task.call("bad", "fail")]))


def test_without_any_worker_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "ALONE_S", 0.0)
    assert refused(doubled, Pretended(0), 1).kind == NoWorkers


def chained(names: Sequence[int]) -> list[Task]:
    return [Task(n, tuple(Step("add", (n,) if m else (n, 0), m) for m in range(3))) for n in names]


def test_steps_go_from_member_to_member_here_and_there() -> None:
    """The tasks of a team come back in order; few more are asked for than its members are busy with."""
    spec, asked = TeamSpec(Part, size=3), list[int]()

    def tasks() -> Iterator[Task]:
        for task in chained(range(20)):
            asked.append(task.name)
            yield task

    with Executor().open(spec, Silent()) as teams:
        here = [(task.name, result) for task, result in teams.run(tasks())]
    asked.clear()
    pretended = Pretended(7)
    team = RayTeam(cast(Workers, pretended), spec)
    there = []
    for task, result in team.run(tasks()):
        there.append((task.name, result))
        assert len(asked) - len(there) < 2 * 3
    assert [result for _, result in team.run(chained([5]))] == [18]  # by the same team
    team.end()
    assert there == here == [(n, 3 * n + 3) for n in range(20)]
    assert len(pretended.started) == 1 and pretended.used == 0


def test_a_team_is_lost_with_a_member_and_a_mistake_is_no_loss() -> None:
    for lost, error in (({4}, WorkerLost), (set(), KeyError)):
        team = RayTeam(cast(Workers, Pretended(3, lost_at=frozenset(lost))), TeamSpec(Part, size=3))
        with pytest.raises(error):
            list(team.run([*chained(range(3)), Task.call("bad", "fail")]))


def test_timing_uses_one_kind_of_device_and_one_task_a_worker() -> None:
    Part.numbers = itertools.count()
    pretended = Pretended(4)
    teams = ray_teams(pretended, alone=True)
    kinds = {result for _, result in teams.run([Task.call(n, "kind") for n in range(12)])}
    assert kinds == {"even"} and len(pretended.started) == 4


def test_workers_of_another_kind_alone_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first worker is lost, and the others may not do its tasks."""
    monkeypatch.setattr(ray_tasks, "ALONE_S", 0.0)
    Part.numbers = itertools.count()
    pretended = Pretended(2)
    teams = ray_teams(pretended, alone=True)
    assert len(list(teams.run([Task.call(n, "kind") for n in range(4)]))) == 4
    teams._teams = [team for team in teams._teams if not team.is_alike]
    assert len(teams._teams) == 1
    assert refused(list, teams.run([Task.call("last", "kind")])).kind == NoWorkers


def test_a_worker_s_object_is_made_once_and_its_iterators_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "carry_tensors", lambda: None)
    member = Member(lambda number: [number, 5], 7, torch.get_num_threads())
    assert member.call("pop") == 5 and member.call("__iter__") == [7]


def test_who_times_alone_has_a_gpu_or_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with CPUs, which is still there and not used already."""
    strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda name, soft: name)
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    monkeypatch.setattr(ray_tasks, "carry_tensors", lambda: None)
    monkeypatch.setattr(ray_tasks, "SETTLED_S", 0.0)
    machines = (("here", 8, True), ("without", 0, True), ("left", 8, False), ("used", 8, True))
    nodes = [{"NodeID": name, "Resources": {"CPU": n}, "Alive": alive} for name, n, alive in machines]
    actors = SimpleNamespace(options=lambda **given: SimpleNamespace(remote=lambda *_: given))
    ray: Any = SimpleNamespace(nodes=lambda: nodes, remote=lambda _: actors)
    for unit, free, expected in (("GPU", 2, ["", ""]), ("GPU", 0, []), ("CPU", 8, ["here"])):
        ray.cluster_resources, ray.available_resources = {unit: 8}.copy, {unit: free}.copy
        cluster: Any = SimpleNamespace(ray=ray, on="local")
        assert [team.node for team in Workers(cluster).start_alone(Part, None, {"used"})] == expected
        if free:
            assert RayExecutor(cluster).settled() == free
        else:
            assert refused(RayExecutor(cluster).settled).kind == NoWorkers


def test_the_cause_of_a_failed_step_is_found_behind_the_steps_that_waited_for_it() -> None:
    class RayTaskError(Exception):
        def __init__(self, cause: BaseException) -> None:
            self.cause = cause

    ray = SimpleNamespace(exceptions=SimpleNamespace(RayTaskError=RayTaskError))
    first = MemoryError()
    assert cause_of(ray, RayTaskError(RayTaskError(first))) is first


def make(base: Path, on: str) -> None:
    make_pieces(make_program(base), base, executor=RayExecutor(Cluster(on)))


@pytest.mark.parametrize("on", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_told_at_once(on: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    diagnostic = refused(make, tmp_path, on)
    assert diagnostic.code == "E1422" and "refused" in diagnostic.message


def test_without_ray_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    diagnostic = refused(make, tmp_path, "local")
    assert diagnostic.code == "E1421" and "pip install 'puzzledsl[ray]'" in diagnostic.help


def test_a_cluster_that_does_not_start_is_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a bare Exception where a node does not come up in time."""

    def init(**given: object) -> None:
        raise Exception("The current node timed out during startup.")

    pretended = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", pretended)
    diagnostic = refused(lambda: Cluster("local").ray)
    assert diagnostic.code == "E1422" and "timed out" in diagnostic.message
