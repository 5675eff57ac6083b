"""Parent and child of a training: whole on its device, or cut over the processes straight from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.child.load import child_config, load_child
from puzzledsl.models.families.access import base_shape_of, blocks_of, family_of
from puzzledsl.models.families.children import model_class_of
from puzzledsl.models.families.inventory import select
from puzzledsl.models.families.load import empty_model, load_config, load_parent
from puzzledsl.models.families.stored import as_parameters
from puzzledsl.models.families.tensors import LazyTensor, open_weights
from puzzledsl.uptrain.frozen import train_all_but_quantised
from puzzledsl.uptrain.means import Means
from puzzledsl.uptrain.model import Student, Teacher
from puzzledsl.uptrain.ranks import Ranks, join_alone
from puzzledsl.uptrain.shard import Sharding, fill, shard


def sharding_of(means: Means, ranks: Ranks, device: torch.device, *, bf16: bool) -> Sharding | None:
    """Return how the models are cut; None: they are whole, on the device of the only process."""
    if ranks.world == 1 and not means.offload:
        return None
    if ranks.world == 1:
        join_alone()
    return Sharding(ranks, device, bf16, means.offload, means.hybrid, means.local_gradients)


def models(
    parent_dir: Path,
    child_dir: Path,
    device: torch.device,
    parent_dtype: torch.dtype,
    sharding: Sharding | None,
    *,
    bf16: bool,
) -> tuple[Teacher, Student]:
    """Read both models, or this process's parts of them. The child is float32, in which small steps add up.

    The parent is bfloat16 where products are: on a GPU, and where it is gathered in that dtype anyway. Collective if sharded.
    Raises DiagnosticError: those of `load_parent` and `load_child`.
    """
    if bf16 and (sharding is not None or device.type == "cuda"):
        parent_dtype = torch.bfloat16
    if sharding is None:
        parent = load_parent(parent_dir, dtype=parent_dtype, device=device)
        return Teacher(parent), Student(load_child(child_dir, dtype=torch.float32, device=device))
    teacher = Teacher(_bare(load_config(parent_dir), parent_dtype, sharding))
    student = Student(_bare(child_config(child_dir), torch.float32, sharding))
    train_all_but_quantised(student.model)
    for module, directory in ((teacher, parent_dir), (student, child_dir)):
        shard(module, sharding)
        offloaded = sharding.offload and module is student
        home = torch.device("cpu") if offloaded else sharding.device
        fill(module, _weights(directory, module.model.config), home)
    return teacher, student


def _bare(config: PreTrainedConfig, dtype: torch.dtype, sharding: Sharding) -> PreTrainedModel:
    """Return a model whose weights have no storage, all of them in `dtype`; what is computed from the config is there."""
    model = empty_model(model_class_of(config), config, dtype, sharding.device)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.tie_weights()
    untyped: Any = model
    return cast(PreTrainedModel, untyped.eval().requires_grad_(False))


def _weights(directory: Path, config: PreTrainedConfig) -> dict[str, LazyTensor]:
    """Return a checkpoint's weights by the names of the model's parameters."""
    weights = select(directory, base_shape_of(config), open_weights(directory), blocks_of(config))
    return as_parameters(weights, family_of(config))
