"""A child in memory, loaded from its checkpoint directory, none of whose code is run; and pieces that fit its sub-blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import PREFIXES, Alternative, SubBlock
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.block_configs import Layer, on_base
from puzzledsl.families.children import is_child
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models.errors import PieceDoesNotFit
from puzzledsl.models.families.load import (
    config_of_child,
    load_parent,
    load_weights,
    read_config_json,
)
from puzzledsl.models.families.slots import load_weights_into, weights_of


def load_child(
    directory: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Load the child in evaluation mode, without gradients. Raises DiagnosticError as `load_weights` does."""
    return load_weights(directory, child_config(directory), dtype=dtype, device=device)


def load_checkpoint(
    directory: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Load a child if config.json has `block_configs`, else a parent. Raises DiagnosticError as either loader does."""
    load = load_child if is_child(read_config_json(directory)) else load_parent
    return load(directory, dtype=dtype, device=device)


def child_config(directory: Path) -> PreTrainedConfig:
    """Return the base family's config with `block_configs` added. Raises DiagnosticError (NotAChild)."""
    content = read_config_json(directory)
    return config_of_child(directory, content)


Pieces = Callable[[str], Mapping[str, Tensor]]
"""Look up a piece's weights by job id. Names are relative to the sub-block (`q_proj.weight`, `linear.weight`, …); those of a
coupled piece start with `self_attn.` or `mlp.`."""


def layers_on_base(definition: ModelDefinition, shape: Shape) -> list[Layer]:
    """Return the layers of a child of a parent of this shape, as alternatives to those of the base family."""
    pairs = zip(definition.layers, shape.each, strict=True)
    return [cast(Layer, (on_base(layer.attention, own), on_base(layer.ffn, own))) for layer, own in pairs]


def choices_of(layer: LayerDefinition) -> list[tuple[SubBlock, Alternative, str | None]]:
    """Return (sub-block, alternative, id of the piece with its weights, or None) for both sub-blocks of a layer."""
    return [
        ("attention", layer.attention, layer.block_piece or layer.attention_piece),
        ("ffn", layer.ffn, layer.block_piece or layer.ffn_piece),
    ]


def load_piece(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    piece: str,
    layer_idx: int,
    sub_block: SubBlock,
    alternative: Alternative,
) -> None:
    """Copy a piece's weights (all, or one half of a coupled piece) into `module`. Raises DiagnosticError (PieceDoesNotFit)."""
    wanted = {name: tuple(weight.shape) for name, weight in weights_of(module).items()}
    load_weights_into(module, fitting(weights, wanted, piece, layer_idx, sub_block, alternative))


def fitting(
    weights: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[int, ...]],
    piece: str,
    layer_idx: int,
    sub_block: SubBlock,
    alternative: Alternative,
) -> Mapping[str, Tensor]:
    """Return a piece's weights for one sub-block, without the prefix of a coupled piece.

    Raises DiagnosticError (PieceDoesNotFit) if their names and shapes are not exactly those in `wanted`.
    """
    prefixes = {name: f"{prefix}." for name, prefix in PREFIXES.items()}
    if any(key.startswith(tuple(prefixes.values())) for key in weights):
        own = prefixes[sub_block]
        weights = {key.removeprefix(own): value for key, value in weights.items() if key.startswith(own)}
    if set(weights) != set(wanted):
        odd = sorted(set(weights) ^ set(wanted))
        reason = f"unlike weights {', '.join(odd[:4])}"
        raise _misfit(piece, layer_idx, sub_block, alternative, reason)
    for key, value in weights.items():
        if tuple(value.shape) != wanted[key]:
            reason = f"{key} is {tuple(value.shape)}, not {tuple(wanted[key])}"
            raise _misfit(piece, layer_idx, sub_block, alternative, reason)
    return weights


def no_piece(layer: int, sub_block: SubBlock, alternative: Alternative) -> DiagnosticError:
    """Return the error for an alternative that needs weights while the definition names no piece for it."""
    return _misfit("(none)", layer, sub_block, alternative, "the definition names no piece")


def _misfit(
    piece: str, layer: int, sub_block: SubBlock, alternative: Alternative, reason: str
) -> DiagnosticError:
    return DiagnosticError(
        PieceDoesNotFit(
            None, piece=piece, layer=layer, sub_block=sub_block, alternative=alternative.name, reason=reason
        )
    )
