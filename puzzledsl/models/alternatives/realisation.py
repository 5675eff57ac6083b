"""Interface of the files in this folder: each computes the initial weights of one alternative, from the parent's layer.

A file has `initialise(alternative, parent)`, which returns them in the parent's dtype. One whose module no family has, as a
package's, also has `build(alternative, site)`, which returns the module in evaluation mode, weights uninitialised, with the call
signature of the sub-block it replaces, and `MODULE`, the module's class: its source is written into exported checkpoints, where
transformers constructs it with the config and the alternative's fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.models.errors import CannotInitialise
from puzzledsl.models.families import access
from puzzledsl.models.families.build import Site as Site
from puzzledsl.models.families.pages import load_module_weights, weights_on_demand
from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.least_squares.grams import LayerStatistics

State = dict[str, Tensor]
"""Weights by their names inside the sub-block."""


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


def cannot_initialise(alternative: Alternative, reason: str) -> DiagnosticError:
    """Return the error for an alternative that this parent does not allow."""
    return DiagnosticError(CannotInitialise(None, alternative=alternative.name, reason=reason))


def like(weight: Tensor, model: Tensor) -> Tensor:
    """Return a fitted weight with the dtype and device of one of the parent's."""
    return weight.detach().to(model).contiguous()
