"""The processes that train together: one, or as many as `torchrun` started, each with its share of the data."""

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
    """This process is number `rank` of `world`; the methods are collective: every process calls them alike."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.rank == 0

    @property
    def mesh(self) -> DeviceMesh:
        """All processes in a row, each with one device."""
        return init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (self.world,))

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over the processes, the same bits in each."""
        if self.world == 1:
            return list(values)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def agreed(self, value: bool) -> bool:
        """What rank 0 says."""
        return bool(self.sum([float(value) if self.leads else 0.0])[0])

    def wait(self) -> None:
        """Until all are here."""
        self.sum([0.0])


ALONE = Ranks()


def ranks_of(environment: Mapping[str, str] = os.environ) -> Ranks:
    """What `torchrun` says in RANK and WORLD_SIZE; alone without it."""
    return Ranks(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))


def join(ranks: Ranks) -> None:
    """Meet the other processes, once. Each takes the GPU of its LOCAL_RANK where there are any."""
    if ranks.world == 1 or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)


def leave() -> None:
    """Part from the other processes, where there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wait_for_the_end() -> None:
    """Until rank 0 is gone."""
    try:
        dist.barrier()
    except RuntimeError:  # the connection broke
        return


def announce(ranks: Ranks, task: str | None) -> None:
    """Rank 0: tell the others what is trained next; None sends them home."""
    if ranks.world > 1:
        join(ranks)
        dist.broadcast_object_list([task], src=0)


def announced(ranks: Ranks) -> Iterator[str]:
    """The others: what rank 0 announces, until it sends them home."""
    join(ranks)
    while True:
        heard: list[str | None] = [None]
        dist.broadcast_object_list(heard, src=0)
        if heard[0] is None:
            return
        yield heard[0]


def shares(rows_GT: Tensor, micro: int, ranks: Ranks) -> list[tuple[Tensor, float]]:
    """This process's micro-batches of a step, each with its share of the step's blocks; every process has as many.

    Blocks go round: micro-batch i is rank i mod world's. One that is there to keep step with the others has share 0.
    """
    blocks = len(rows_GT)
    micro = max(1, min(micro, -(-blocks // ranks.world)))
    cuts = list(torch.split(rows_GT, micro))
    rounds = -(-len(cuts) // ranks.world)
    mine = [cuts[i] for i in range(ranks.rank, len(cuts), ranks.world)]
    found = [(rows, len(rows) / blocks) for rows in mine]
    return found + [(cuts[0], 0.0)] * (rounds - len(found))
