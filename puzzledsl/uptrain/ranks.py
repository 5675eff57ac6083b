"""Data-parallel processes of a training: one, or those that `torchrun` started, each with its share of the data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

PATIENCE = timedelta(days=7)  # others wait while rank 0 does what it does alone


@dataclass(frozen=True, slots=True)
class Ranks:
    """Process `rank` of `world`. The methods are collective: every process must call them in the same order."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """True on rank 0, which reports and writes."""
        return self.rank == 0

    @property
    def mesh(self) -> DeviceMesh:
        """The device mesh of all processes, one device each."""
        return init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (self.world,))

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over the processes, bit-identical in each."""
        if self.world == 1:
            return list(values)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def broadcast(self, value: bool) -> bool:
        """Return rank 0's value."""
        return bool(self.sum([float(value) if self.leads else 0.0])[0])

    def barrier(self) -> None:
        """Wait for all processes."""
        self.sum([0.0])


SINGLE_PROCESS = Ranks()


def ranks_of(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Return the ranks from torchrun's RANK and WORLD_SIZE; a single process without them."""
    return Ranks(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))


def join(ranks: Ranks) -> None:
    """Join the process group, once. With GPUs, each process takes the one of its LOCAL_RANK."""
    if ranks.world == 1 or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)


def leave() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


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
