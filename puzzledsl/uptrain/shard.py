"""Parent and child over several processes: FSDP2, each layer a group that is gathered when it runs.

A sharded model is made without storage, cut, and filled: each process reads its own rows from the checkpoint's files, so that a
whole copy exists nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from puzzledsl.models.families.access import layers, output_embedding
from puzzledsl.models.families.tensors import CHUNK_BYTES, LazyTensor
from puzzledsl.uptrain.model import Student, Teacher
from puzzledsl.uptrain.ranks import Ranks


@dataclass(frozen=True, slots=True)
class Sharding:
    """The way in which both models are cut.

    `bf16`: weights are gathered in bfloat16, and gradients reduced in float32. `offload`: what a process holds of the child is in
    the host's memory, and only what runs is on its GPU. `hybrid`: each machine holds everything, cut over its processes.
    `local_gradients`: micro-batches add up whole gradients, which are reduced once a step.
    """

    ranks: Ranks
    device: torch.device
    bf16: bool
    offload: bool = False
    hybrid: bool = False
    local_gradients: bool = False


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
    mesh = sharding.ranks.mesh(hybrid=sharding.hybrid)
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


def accumulate(student: Student, sharding: Sharding, *, last: bool) -> None:
    """Say before a micro-batch's backward pass whether it is the step's last one, after which gradients are complete.

    Before that, replicas keep their sums, and with `local_gradients` every process does.
    """
    if not isinstance(student, FSDPModule):
        return
    student.set_is_last_backward(last)
    if sharding.local_gradients:
        student.set_requires_gradient_sync(last)
        student.set_reshard_after_backward(last)
    elif sharding.hybrid:
        student.set_requires_all_reduce(last)


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
