"""Configuration and class of a model with the layers of a child. Reads `block_configs`; never runs code from a directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.children import BLOCKS, base_content
from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import child_of_config
from puzzledsl.models.alternatives.build import build_on_base
from puzzledsl.models.errors import NotAChild
from puzzledsl.models.families.access import (
    PARENT_BLOCKS,
    base_shape_of,
    blocks_of,
    family_of,
    note_names,
    shape_of,
)
from puzzledsl.models.families.families import classes_of
from puzzledsl.models.replace import number_cache_slots, put
from puzzledsl.models.transformers_private import decoded_floats

OWN_KEYS = (  # keys of a child's config.json that its base family's config does not take
    "model_type",
    "architectures",
    "auto_map",
    "base_model_type",
    "transformers_version",
    "per_layer_config",  # per-layer differences for other readers; this loader numbers the KV cache's slots itself
    BLOCKS,
)


def config_of_child(
    directory: Path, content: Mapping[str, Any], *, as_parent: bool = False
) -> PreTrainedConfig:
    """Return the base family's config with `block_configs`, or `parent_blocks`. Raises DiagnosticError (NotAChild).

    `content`: the config.json.
    """
    try:
        child_of_config(content)
        base = base_content(content)
        kept = {key: value for key, value in base.items() if key not in OWN_KEYS}
        config = CONFIG_MAPPING[base["model_type"]](**decoded_floats(kept))
    except (BadConfig, KeyError, TypeError, ValueError) as error:
        raise DiagnosticError(NotAChild(None, path=directory, reason=f"bad config.json: {error}")) from error
    setattr(config, PARENT_BLOCKS if as_parent else BLOCKS, content[BLOCKS])
    return config


def model_class_of(config: PreTrainedConfig) -> type[Any]:
    """Return the family's causal LM; with the modules of `block_configs`, or `parent_blocks`, if the config has them."""
    base = classes_of(family_of(config).model_type).causal_lm
    if blocks_of(config) is None:
        return base

    class Child(base):  # type: ignore[misc, valid-type]
        """The family's causal LM with the child's modules in it."""

        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            _install(self)

    Child.__name__ = base.__name__
    return Child


def _install(model: PreTrainedModel) -> None:
    """Put uninitialised modules in place of every sub-block that the child changes."""
    note_names(model, base_shape_of(model.config))
    for layer_idx, pair in enumerate(blocks_of(model.config) or ()):
        for sub_block, alternative in zip(SUB_BLOCKS, pair, strict=True):
            if not alternative.is_parent:
                put(model, layer_idx, sub_block, build_on_base(model, layer_idx, alternative))
    note_names(model, shape_of(model.config))
    number_cache_slots(model)
