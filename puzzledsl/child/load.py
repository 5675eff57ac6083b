"""Load a child from its checkpoint directory. Reads `block_configs` directly; never runs code from the directory."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.families.children import is_child
from puzzledsl.models.families.access import base_shape_of, blocks_of, family_of
from puzzledsl.models.families.children import config_of_child, model_class_of
from puzzledsl.models.families.load import load_config, load_parent, load_weights, read_config_json
from puzzledsl.models.families.repeated import source_layers, source_names
from puzzledsl.models.families.stored import check_sizes, select
from puzzledsl.models.families.tensors import open_weights


def load_child(
    directory: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    room_bytes: int | None = None,
) -> PreTrainedModel:
    """Load the child in evaluation mode, without gradients; `room_bytes` as for `load_weights`.

    Raises DiagnosticError: NotAChild and those of `load_parent`.
    """
    config = child_config(directory)
    weights = select(directory, base_shape_of(config), open_weights(directory), blocks_of(config))
    return load_weights(
        model_class_of(config), directory, config, weights, dtype=dtype, device=device, room_bytes=room_bytes
    )


def load_checkpoint(
    directory: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    room_bytes: int | None = None,
) -> PreTrainedModel:
    """Load a child if config.json has `block_configs`, else a parent. Raises DiagnosticError as either loader does."""
    load = load_child if is_child(read_config_json(directory)) else load_parent
    return load(directory, dtype=dtype, device=device, room_bytes=room_bytes)


def least_bytes(directory: Path, dtype: torch.dtype) -> int:
    """Return the bytes of a model in which as many layers as possible use the weights of others (`room_bytes` = 0)."""
    content = read_config_json(directory)
    config = child_config(directory) if is_child(content) else load_config(directory)
    weights = select(directory, base_shape_of(config), open_weights(directory), blocks_of(config))
    prefix = family_of(config).layers
    sources = source_names(weights, prefix, source_layers(weights, prefix, dtype, 0))
    own = (weight for name, weight in weights.items() if sources[name] == name)
    return sum(math.prod(weight.shape) for weight in own) * dtype.itemsize


def child_config(directory: Path) -> PreTrainedConfig:
    """Return the base family's config with `block_configs` added. Raises DiagnosticError (NotAChild)."""
    content = read_config_json(directory)
    check_sizes(directory, content)
    return config_of_child(directory, content)
