"""Data-parallel processes of a training: one, or those that `torchrun` started, each with its share of the data.

Two kinds of groups, because they may wait for different times: the default group (gloo) carries rank 0's decisions, and its
members wait as long as rank 0 does something alone; a training's own groups carry its collectives, where a long wait means that
a process is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from puzzledsl.base.diagnostics import DiagnosticError

PATIENCE = timedelta(days=7)  # others wait while rank 0 does what it does alone
COLLECTIVE = timedelta(minutes=30)  # all do the same work: one that is this late is lost
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Process `rank` of `world`, `per_node` of them on each machine (0: all on one).

    The methods are collective: every process must call them in the same order.
    """

    rank: int = 0
    world: int = 1
    per_node: int = 0

    @property
    def leads(self) -> bool:
        """True on rank 0, which reports and writes."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """The number of machines."""
        return self.world // self.per_node if self.per_node else 1

    def mesh(self, *, hybrid: bool = False) -> DeviceMesh:
        """Return the mesh of all processes, one device each; with `hybrid`, [nodes, processes of a node]."""
        return _mesh(self.rank, self.world, self.world // self.nodes if hybrid else self.world)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over the processes, bit-identical in each."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor on the training's device by its sum over the processes, without waiting for the device."""
        if self.world > 1:
            dist.all_reduce(tensor, group=_group(self.world, COLLECTIVE))

    def broadcast(self, value: bool) -> bool:
        """Return rank 0's value."""
        return bool(self.sum([float(value) if self.leads else 0.0])[0])

    def from_first(self, compute: Callable[[], T]) -> T:
        """Return what rank 0 computes, a picklable object; the others only wait. A diagnostic of rank 0's is raised in each."""
        if self.world == 1:
            return compute()
        told: list[Any] = [None, ()]
        if self.leads:
            try:
                told[0] = compute()
            except DiagnosticError as error:
                dist.broadcast_object_list([None, error.diagnostics], src=0)
                raise
        dist.broadcast_object_list(told, src=0)
        if told[1]:
            raise DiagnosticError(*told[1])
        value: T = told[0]
        return value

    def barrier(self) -> None:
        """Wait for all processes."""
        self.sum([0.0])


SINGLE_PROCESS = Ranks()


def ranks_of(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Return the ranks from torchrun's variables; a single process without them."""
    names = ("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_WORLD_SIZE", "0")
    return Ranks(*(int(environment.get(name, usual)) for name, usual in names))


def join(ranks: Ranks) -> None:
    """Join the process group, once. With GPUs, each process takes the one of its LOCAL_RANK."""
    if ranks.world == 1 or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("gloo", timeout=PATIENCE)


def join_alone() -> None:
    """Make a group of this process alone, which FSDP needs for moving a model's weights in and out of one GPU."""
    if not dist.is_initialized():
        untyped: Any = dist
        dist.init_process_group("gloo", store=untyped.HashStore(), rank=0, world_size=1)


def leave() -> None:
    """Leave the process group, if there is one."""
    _group.cache_clear()
    _mesh.cache_clear()
    if dist.is_initialized():
        dist.destroy_process_group()


def writers(ranks: Ranks) -> dist.ProcessGroup:
    """Return the group in which a thread writes checkpoints, apart from the training's collectives. Collective."""
    return _group(ranks.world, PATIENCE)


@cache
def _group(world: int, timeout: timedelta) -> dist.ProcessGroup:
    return _new_group(list(range(world)), timeout)


def _new_group(members: list[int], timeout: timedelta) -> dist.ProcessGroup:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and timeout == COLLECTIVE else "gloo"
    group: Any = dist.new_group(members, timeout=timeout, backend=backend)
    return group  # type: ignore[no-any-return]


@cache
def _mesh(rank: int, world: int, together: int) -> DeviceMesh:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if together == world:
        return DeviceMesh.from_group(_group(world, COLLECTIVE), device)
    grid = torch.arange(world).reshape(-1, together)
    shards = [_new_group(row, COLLECTIVE) for row in grid.tolist()]
    replicas = [_new_group(column, COLLECTIVE) for column in grid.T.tolist()]
    mine = [replicas[rank % together], shards[rank // together]]
    return DeviceMesh.from_group(mine, device, mesh=grid, mesh_dim_names=("replicas", "shards"))


def wait_for_the_end() -> None:
    """Wait until rank 0 has ended."""
    try:
        dist.barrier()
    except RuntimeError:  # the connection broke
        return


def announce(ranks: Ranks, task: str | None) -> None:
    """On rank 0: announce the next task to the other ranks; None ends them."""
    if ranks.world > 1:
        join(ranks)
        dist.broadcast_object_list([task], src=0)


def announced(ranks: Ranks) -> Iterator[str]:
    """On the other ranks: yield the tasks that rank 0 announces, until it announces None."""
    join(ranks)
    while True:
        heard: list[str | None] = [None]
        dist.broadcast_object_list(heard, src=0)
        if heard[0] is None:
            return
        yield heard[0]


def shares(rows_GT: Tensor, micro: int, ranks: Ranks) -> list[tuple[Tensor, float]]:
    """Return this process's micro-batches of a step, each with its share of the step's blocks.

    Every process gets the same number of them. Micro-batch i belongs to rank i mod world; one that only keeps a
    process in step with the others has share 0.
    """
    blocks = len(rows_GT)
    micro = max(1, min(micro, -(-blocks // ranks.world)))
    cuts = list(torch.split(rows_GT, micro))
    rounds = -(-len(cuts) // ranks.world)
    mine = [cuts[i] for i in range(ranks.rank, len(cuts), ranks.world)]
    found = [(rows, len(rows) / blocks) for rows in mine]
    return found + [(cuts[0], 0.0)] * (rounds - len(found))
