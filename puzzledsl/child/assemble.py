"""A child in memory, loaded from its checkpoint directory, none of whose code is run; and pieces that fit its sub-blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import PREFIXES, Alternative, SubBlock
from puzzledsl.base.diagnostics import Args, DiagnosticError
from puzzledsl.families.block_configs import Layer, is_child, on_base
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models.alternatives.realisation import build_alternative, with_cache
from puzzledsl.models.errors import PieceDoesNotFit
from puzzledsl.models.families.access import sub_block_of
from puzzledsl.models.families.load import (
    config_of_child,
    load_parent,
    read_config_json,
)
from puzzledsl.models.families.slots import load_weights_into, weights_of
from puzzledsl.models.transformers_private import with_own_modules


def load_child(
    directory: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Load the child in evaluation mode, without gradients. Raises DiagnosticError as `load_parent` does."""
    return load_parent(directory, child_config(directory), dtype=dtype, device=device)


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


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sub-block of a child, with the id of the piece that has its weights; None without one."""

    layer_idx: int
    sub_block: SubBlock
    alternative: Alternative
    piece: str | None

    def module(
        self, model: PreTrainedModel, layer: nn.Module, pieces: Pieces
    ) -> tuple[nn.Module, Mapping[str, Tensor]]:
        """Return the sub-block for a layer of the parent, whose own weights are shared, and what its piece holds.

        Raises DiagnosticError: PieceDoesNotFit, and those of `build_alternative`.
        """
        if self.alternative.keeps_weights:
            own = with_own_modules(sub_block_of(layer, self.sub_block))
            return with_cache(own, self.alternative.cache), {}
        made = build_alternative(model, self.layer_idx, self.alternative).requires_grad_(False)
        return made, {} if self.alternative.removes else self.load(made, pieces)

    def load(self, module: nn.Module, pieces: Pieces) -> Mapping[str, Tensor]:
        """Copy the piece's weights into the module, and return them. Raises DiagnosticError (PieceDoesNotFit)."""
        wanted = {name: tuple(weight.shape) for name, weight in weights_of(module).items()}
        weights = self.weights(pieces, wanted)
        load_weights_into(module, weights)
        return weights

    def weights(self, pieces: Pieces, wanted: Mapping[str, tuple[int, ...]]) -> Mapping[str, Tensor]:
        """Return the piece's weights for the sub-block, without the prefix of a coupled piece.

        Raises DiagnosticError (PieceDoesNotFit) if there is no piece, or if names and shapes are not exactly those in `wanted`.
        """
        if self.piece is None:
            raise self.misfit("the definition names no piece")
        weights, prefixes = pieces(self.piece), {name: f"{prefix}." for name, prefix in PREFIXES.items()}
        if any(key.startswith(tuple(prefixes.values())) for key in weights):
            own = prefixes[self.sub_block]
            weights = {key.removeprefix(own): value for key, value in weights.items() if key.startswith(own)}
        if odd := sorted(set(weights) ^ set(wanted)):
            raise self.misfit(f"unlike weights {', '.join(odd[:4])}")
        for key, value in weights.items():
            if tuple(value.shape) != wanted[key]:
                raise self.misfit(f"{key} is {tuple(value.shape)}, not {tuple(wanted[key])}")
        return weights

    def misfit(self, reason: str) -> DiagnosticError:
        """Return the error for a piece that does not fit."""
        where: Args = {
            "layer": self.layer_idx,
            "sub_block": self.sub_block,
            "alternative": self.alternative.name,
        }
        return DiagnosticError(PieceDoesNotFit(None, piece=self.piece or "(none)", reason=reason, **where))


def chosen_in(layer_idx: int, layer: LayerDefinition) -> tuple[Chosen, Chosen]:
    """Return both sub-blocks of a child's layer. A coupled piece stores its own half of the parent's alone."""
    return (
        Chosen(layer_idx, "attention", layer.attention, layer.block_piece or layer.attention_piece),
        Chosen(layer_idx, "ffn", layer.ffn, layer.block_piece or layer.ffn_piece),
    )
