"""Build the module of an alternative in place of a layer's sub-block, and initialise it from the parent's layer."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.models.alternatives.realisation import ParentLayer, Site, State
from puzzledsl.models.alternatives.registry import realisation_of
from puzzledsl.models.families.access import base_shape_of, on_base
from puzzledsl.models.kernels.repeatable import repeatable
from puzzledsl.models.least_squares.layer_statistics import LayerStatistics


def build_alternative(
    model_or_config: PreTrainedModel | PreTrainedConfig,
    layer_idx: int,
    alternative: Alternative,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Build a module with the call signature and outputs of the sub-block it replaces. Its weights are uninitialised.

    `dtype` and `device` default to the model's (float32 on the CPU for a config). A no-op has no weights.
    Raises DiagnosticError: CannotRealise, BrokenModule, HeadsDontDivide.
    """
    config = model_or_config.config if isinstance(model_or_config, PreTrainedModel) else model_or_config
    alternative = on_base(config, layer_idx, alternative)
    return build_on_base(model_or_config, layer_idx, alternative, dtype=dtype, device=device)


def build_on_base(
    model_or_config: PreTrainedModel | PreTrainedConfig,
    layer_idx: int,
    alternative: Alternative,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Build a module as `build_alternative` does, of an alternative to the base family's layer."""
    if isinstance(model_or_config, PreTrainedModel):
        config = model_or_config.config
        dtype, device = dtype or model_or_config.dtype, device or model_or_config.device
    else:
        config = model_or_config
    site = Site(config, base_shape_of(config).at(layer_idx), layer_idx, dtype or torch.float32, device)
    return realisation_of(alternative).build(alternative, site)


def initialise(
    layer: nn.Module,
    alternative: Alternative,
    statistics: LayerStatistics,
    init: Initialisers,
    shape: Shape,
) -> State:
    """Return the initial weights of one alternative; empty for a no-op, the parent's own for `parent`.

    `shape`: the layer's.
    Names are those inside the sub-block: `q_proj.weight`, `down_proj.weight`, `linear.weight`. Weights have the parent's
    dtype. Raises DiagnosticError: CannotInitialise, CannotRealise, BrokenModule.
    """
    parent = ParentLayer(layer, shape, statistics, init)
    with repeatable(statistics.attention.xx.device):
        return realisation_of(alternative).initialise(alternative, parent)
