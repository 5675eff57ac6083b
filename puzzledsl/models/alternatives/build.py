"""Build the module of an alternative in place of a layer's sub-block, and initialise it from the parent's layer.

Each alternative with a module has a file with `build` and `initialise`: beside this one, or a package's, which an entry point
of `puzzledsl.models.alternatives` with the alternative's name refers to.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.base.diagnostics import CannotRealise, DiagnosticError
from puzzledsl.models.alternatives.realisation import ParentLayer, Realisation, Site, State
from puzzledsl.models.errors import BrokenModule
from puzzledsl.models.families.access import base_shape_of, on_base
from puzzledsl.models.kernels.products import repeatable
from puzzledsl.models.least_squares.grams import LayerStatistics

GROUP = "puzzledsl.models.alternatives"


def realisation_of(alternative: Alternative) -> Realisation:
    """Return the file of an alternative. Raises DiagnosticError: CannotRealise, BrokenModule."""
    found = _own(alternative.kind) or _installed(alternative.kind)
    if found is None:
        raise DiagnosticError(CannotRealise(None, alternative=alternative.name))
    return found


def module_class(alternative: Alternative) -> type[nn.Module] | None:
    """Return the class that a checkpoint must bring; None for an alternative that every checkpoint's code has."""
    return cast(type[nn.Module] | None, getattr(realisation_of(alternative), "MODULE", None))


@cache
def _own(kind: str) -> Realisation | None:
    """Return the file of this folder that makes an alternative; None if it has none."""
    name = f"{__package__}.{kind}"
    found = None if find_spec(name) is None else import_module(name)
    return cast(Realisation, found) if hasattr(found, "build") else None


@cache
def _installed(kind: str) -> Realisation | None:
    """Return the file of an installed package; None if no package has one. Raises DiagnosticError (BrokenModule)."""
    for entry in entry_points(group=GROUP, name=kind):
        try:
            found: Any = entry.load()
            missing = [name for name in ("build", "initialise", "MODULE") if not hasattr(found, name)]
            reason = f"`{entry.value}` has no {', '.join(missing)}" if missing else ""
        except Exception as error:  # whatever the package's code raises
            reason = f"{type(error).__name__}: {error}"
        if reason:
            raise DiagnosticError(BrokenModule(None, alternative=kind, reason=reason))
        return cast(Realisation, found)
    return None


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
    layer: nn.Module, alternative: Alternative, statistics: LayerStatistics, init: Initialisers, shape: Shape
) -> State:
    """Return the initial weights of one alternative; empty for a no-op, the parent's own for `parent`.

    `shape`: the layer's.
    Names are those inside the sub-block: `q_proj.weight`, `down_proj.weight`, `linear.weight`. Weights have the parent's
    dtype. Raises DiagnosticError: CannotInitialise, CannotRealise, BrokenModule.
    """
    parent = ParentLayer(layer, shape, statistics, init)
    with repeatable(statistics.attention.xx.device):
        return realisation_of(alternative).initialise(alternative, parent)
