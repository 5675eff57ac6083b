"""Interface of the files in this folder: each builds the module of one alternative and computes its initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.family import Part
from puzzledsl.models.errors import CannotInitialise
from puzzledsl.models.families import access
from puzzledsl.models.families.pages import load_module_weights, weights_on_demand
from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.least_squares.grams import LayerStatistics

State = dict[str, Tensor]
"""Weights by their names inside the sub-block."""


@dataclass(frozen=True, slots=True)
class Site:
    """The place of a module: a layer of a model with this config. `shape` is the layer's."""

    config: PreTrainedConfig
    shape: Shape
    layer_idx: int
    dtype: torch.dtype
    device: torch.device | str | None

    def part(self, sub_block: SubBlock) -> Part:
        """Return the names of a sub-block that the layer has."""
        found = access.names_of(self.shape, self.layer_idx).of(sub_block)
        assert found is not None, f"layer {self.layer_idx} has no {sub_block}"
        return found


@dataclass(frozen=True, slots=True)
class ParentLayer:
    """A layer of the parent, its shape and statistics of its activations, which keep work that alternatives share."""

    layer: nn.Module
    shape: Shape
    statistics: LayerStatistics
    init: Initialisers

    def sub_block(self, sub_block: SubBlock) -> Any:
        """Return the parent's module, with its weights in memory."""
        module = access.sub_block_of(self.layer, sub_block)
        load_module_weights(module)
        return module

    def weights(self, sub_block: SubBlock) -> State:
        """Return a copy of the parent's weights."""
        return {name: weight.clone() for name, weight in weights_of(self.sub_block(sub_block)).items()}

    def weights_on_demand(self, sub_block: SubBlock) -> Mapping[str, Tensor]:
        """Return the parent's weights, not copied; read one by one where memory is short (`paged.weights_on_demand`)."""
        return weights_on_demand(access.sub_block_of(self.layer, sub_block))


class Realisation(Protocol):
    """A file of this folder. Alternatives are matched by class, so each file takes its own.

    A package's file also has `MODULE`, the class of its module: its source is written into exported checkpoints, where
    transformers constructs it with the config and the alternative's fields.
    """

    def build(self, alternative: Any, site: Site) -> nn.Module:
        """Build the module with the call signature of the sub-block it replaces, in evaluation mode, weights uninitialised."""

    def initialise(self, alternative: Any, parent: ParentLayer) -> State:
        """Return the initial weights, in the parent's dtype."""


def cannot_initialise(alternative: Alternative, reason: str) -> DiagnosticError:
    """Return the error for an alternative that this parent does not allow."""
    return DiagnosticError(CannotInitialise(None, alternative=alternative.name, reason=reason))


def like(weight: Tensor, model: Tensor) -> Tensor:
    """Return a fitted weight with the dtype and device of one of the parent's."""
    return weight.detach().to(model).contiguous()
