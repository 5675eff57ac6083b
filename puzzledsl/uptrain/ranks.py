"""Processes of a training: one, or those that `torchrun` started, each with its share of the data and of the models.

A sharded model (FSDP2, each layer a group that is gathered when it runs) is made without storage, cut, and filled: each process
reads its own rows from the checkpoint's files. There are two kinds of groups, because they may wait for different times: the
default group (gloo) carries rank 0's decisions, and its members wait as long as rank 0 does something alone; a training's own
groups carry its collectives, where a long wait means that a process is lost.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.frozen import Record
from puzzledsl.models.families.access import layers, output_embedding
from puzzledsl.models.families.tensors import CHUNK_BYTES, LazyTensor
from puzzledsl.uptrain.model import Student, Teacher

PATIENCE = timedelta(days=7)  # others wait while rank 0 does what it does alone
COLLECTIVE = timedelta(minutes=30)  # all do the same work: one that is this late is lost
T = TypeVar("T")


class Ranks(Record):
    """Process `rank` of `world`, `per_node` on each machine (0: all on one). Methods are collective, in the same order."""

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

    def mesh(self) -> DeviceMesh:
        """Return the mesh of all processes, one device each."""
        return _mesh(self.world)

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
            dist.all_reduce(tensor, group=_group(self.world))

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

    def gather(self, value: T) -> list[T]:
        """Return the picklable objects of all processes, in their order."""
        each = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(each, value)
        return each

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


@cache
def _group(world: int) -> dist.ProcessGroup:
    """Return the group of a training's collectives."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    group: Any = dist.new_group(list(range(world)), timeout=COLLECTIVE, backend=backend)
    return group  # type: ignore[no-any-return]


@cache
def _mesh(world: int) -> DeviceMesh:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return DeviceMesh.from_group(_group(world), device)


def wait_for_the_end() -> None:
    """On the other ranks: wait until rank 0 has ended, which breaks the connection."""
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


class Sharding(Record):
    """The way in which both models are cut.

    `bf16`: weights are gathered in bfloat16, and gradients reduced in float32. `offload`: what a process holds of the child is in
    the host's memory, and only what runs is on its GPU.
    """

    ranks: Ranks
    device: torch.device
    bf16: bool
    offload: bool = False


def shard(module: Teacher | Student, sharding: Sharding) -> None:
    """Cut the weights over the processes.

    Embeddings and final norm are one group. A teacher's group stays gathered after its forward until `reshard`, because its
    output embedding is read then; a student's does not, because its weights change.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if sharding.bf16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    on_gpu = sharding.device.type == "cuda"
    moved = sharding.offload and isinstance(module, Student)
    offload = CPUOffloadPolicy(pin_memory=on_gpu) if moved else OffloadPolicy()
    mesh = sharding.ranks.mesh()
    for layer in layers(module.model):
        fully_shard(layer, mesh=mesh, mp_policy=policy, offload_policy=offload)
    gathered_again = isinstance(module, Student)
    fully_shard(
        module, mesh=mesh, mp_policy=policy, offload_policy=offload, reshard_after_forward=gathered_again
    )
    if on_gpu:
        _prefetch([cast(FSDPModule, layer) for layer in layers(module.model)])


def _prefetch(order: list[FSDPModule]) -> None:
    """Gather a layer's weights while the one before it runs, and in the backward pass while the one behind it does."""
    for one, following in pairwise(order):
        one.set_modules_to_forward_prefetch([following])
        following.set_modules_to_backward_prefetch([one])


@torch.no_grad()
def fill(module: Teacher | Student, weights: Mapping[str, LazyTensor], device: torch.device) -> None:
    """Give storage on `device` to this process's parts of a sharded model, and read them: only their rows, a few at a time.

    `weights`: by the names of the model's parameters. Raises DiagnosticError (DamagedWeights).
    """
    model: nn.Module = module.model
    for name, parameter in model.named_parameters():
        storage = nn.Parameter(torch.empty_like(parameter, device=device), parameter.requires_grad)
        torch.utils.swap_tensors(parameter, storage)  # type: ignore[no-untyped-call]
        _read(local(parameter.detach()), weights[name], first_row(cast(DTensor, parameter)))
    for name, buffer in model.named_buffers():
        if name in weights:
            buffer.copy_(weights[name].read())


def first_row(parameter: DTensor) -> int:
    """Return the first row of this process's part: rows are cut into equal parts, but for the last ones."""
    parts, mine = parameter.device_mesh.size(-1), parameter.device_mesh.get_local_rank(-1)
    return min(len(parameter), mine * -(-len(parameter) // parts))


def _read(into: Tensor, weight: LazyTensor, first: int) -> None:
    """Read the rows of a weight from `first` on, as many as `into` has."""
    step = max(1, CHUNK_BYTES * weight.shape[0] // max(1, weight.nbytes))
    for start in range(0, len(into), step):
        stop = min(start + step, len(into))
        into[start:stop].copy_(weight.rows(first + start, first + stop))


def embedding_of(teacher: Teacher) -> Tensor:
    """Return the parent's output embedding [V, H], gathered until `reshard`. Collective."""
    if isinstance(teacher, FSDPModule):
        teacher.unshard()
    return output_embedding(teacher.model)


def reshard(teacher: Teacher) -> None:
    """Free the gathered weights of the parent except this process's part."""
    if isinstance(teacher, FSDPModule):
        teacher.reshard()


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor (all of it, if it is not sharded), sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """Return the whole tensor, gathered from every process. Collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered_when_read(model: nn.Module) -> dict[str, LazyTensor]:
    """Return `state_dict` as tensors on the CPU, each gathered when it is read. Reading is collective."""

    def reader(value: Tensor) -> Callable[[], Tensor]:
        return lambda: gathered(value).cpu().contiguous()

    held = model.state_dict(keep_vars=True).items()
    return {n: LazyTensor(tuple(v.shape), v.dtype, reader(v.detach())) for n, v in held}
