"""Load a child from its checkpoint directory. Reads `block_configs` directly; never runs code from the directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.block_configs import from_block_configs
from puzzledsl.models.alternatives.build import build_alternative
from puzzledsl.models.errors import NotAChild
from puzzledsl.models.families.access import family_of, shape_of
from puzzledsl.models.families.families import classes_of
from puzzledsl.models.families.inventory import check_sizes, select
from puzzledsl.models.families.load import load_parent, load_weights, read_config_json
from puzzledsl.models.families.tensors import open_weights
from puzzledsl.models.replace import number_cache_slots, put

CHILD_MODEL_TYPE = "nemotron-nas"
OWN_KEYS = (  # keys of a child's config.json that its base family's config does not take
    "model_type",
    "architectures",
    "auto_map",
    "base_model_type",
    "transformers_version",
    "per_layer_config",  # per-layer differences for other readers; this loader numbers the KV cache's slots itself
)


def load_child(
    directory: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """Load the child in evaluation mode, without gradients. Raises DiagnosticError: NotAChild and those of `load_parent`."""
    config = child_config(directory)
    layers = from_block_configs(cast(Any, config).block_configs, shape_of(config))
    weights = select(directory, shape_of(config), open_weights(directory), layers)
    return load_weights(_child_class(config), directory, config, weights, dtype=dtype, device=device)


def load_checkpoint(
    directory: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """Load a child if config.json has `block_configs`, else a parent. Raises DiagnosticError as either loader does."""
    load = load_child if "block_configs" in read_config_json(directory) else load_parent
    return load(directory, dtype=dtype, device=device)


def child_config(directory: Path) -> PreTrainedConfig:
    """Return the base family's config with `block_configs` added. Raises DiagnosticError (NotAChild)."""
    content = read_config_json(directory)
    check_sizes(directory, content)
    blocks, base = content.get("block_configs"), content.get("base_model_type", "llama")
    if not isinstance(blocks, list):
        raise DiagnosticError(
            NotAChild(None, path=directory, reason="its config.json has no `block_configs`")
        )
    if base not in CONFIG_MAPPING:
        raise DiagnosticError(NotAChild(None, path=directory, reason=f"unknown base model type `{base}`"))
    try:
        kept = {key: value for key, value in content.items() if key not in OWN_KEYS}
        config = CONFIG_MAPPING[base](**PreTrainedConfig._decode_special_floats(kept))
        alternatives = from_block_configs(blocks, shape_of(config))
    except (KeyError, TypeError, ValueError) as error:
        raise DiagnosticError(NotAChild(None, path=directory, reason=f"bad config.json: {error}")) from error
    if len(alternatives) != config.num_hidden_layers:
        reason = f"{len(alternatives)} block_configs for {config.num_hidden_layers} layers"
        raise DiagnosticError(NotAChild(None, path=directory, reason=reason))
    return config


def install(model: PreTrainedModel) -> None:
    """Put uninitialised modules in place of every sub-block that `config.block_configs` changes."""
    alternatives = from_block_configs(cast(Any, model.config).block_configs, shape_of(model.config))
    for layer_idx, (attention, ffn) in enumerate(alternatives):
        if attention.kind != "parent":
            put(
                model,
                layer_idx,
                "attention",
                build_alternative(model, layer_idx, attention),
            )
        if ffn.kind != "parent":
            put(model, layer_idx, "ffn", build_alternative(model, layer_idx, ffn))
    number_cache_slots(model)


def _child_class(config: PreTrainedConfig) -> type[nn.Module]:
    base = classes_of(family_of(config).model_type).causal_lm

    class Child(base):  # type: ignore[misc, valid-type]
        """The family's causal LM with the child's modules in it."""

        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            install(self)

    Child.__name__ = base.__name__
    return Child
