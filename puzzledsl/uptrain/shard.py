"""Parent and child over several processes: FSDP2, each layer a group that is gathered when it runs.

Shape legend: V vocabulary, H hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from puzzledsl.models.families.access import layers, output_embedding
from puzzledsl.uptrain.model import Student, Teacher
from puzzledsl.uptrain.ranks import Ranks


def shard(module: Teacher | Student, ranks: Ranks, *, bf16: bool) -> None:
    """Shard the weights over the processes. With `bf16`, weights are gathered in bfloat16 and gradients reduced in float32.

    Embeddings and final norm are one group. A teacher's group stays gathered after its forward until `reshard`, because its
    output embedding is read then; a student's does not, because its weights change.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    mesh = ranks.mesh
    for layer in layers(module.model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=isinstance(module, Student))


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


def gathered_state(model: nn.Module) -> dict[str, Tensor]:
    """`state_dict` with whole tensors on the CPU, gathered one by one; tied ones share their memory. Collective."""
    by_id: dict[int, Tensor] = {}
    state = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in by_id:
            by_id[id(value)] = gathered(value.detach()).cpu()
        state[name] = by_id[id(value)]
    return state
