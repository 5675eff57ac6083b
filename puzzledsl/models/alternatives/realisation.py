"""Build the module of an alternative in place of a layer's sub-block, and initialise it from the parent's layer.

An alternative has a file beside this one, or one of a package, which an entry point of `puzzledsl.models.alternatives` with the
alternative's name refers to. A file has `initialise(alternative, parent)`, which returns the initial weights in the parent's
dtype. One whose module no family has, as a package's, also has `build(alternative, site)`, which returns the module in evaluation
mode, weights uninitialised, with the call signature of the sub-block it replaces, and `MODULE`, the module's class: its source is
written into exported checkpoints, where transformers constructs it with the config and the alternative's fields.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.base.diagnostics import CannotRealise, DiagnosticError
from puzzledsl.base.frozen import Record
from puzzledsl.models.errors import BrokenModule, CannotInitialise
from puzzledsl.models.families import access
from puzzledsl.models.families.access import base_shape_of, on_base
from puzzledsl.models.families.build import Site as Site
from puzzledsl.models.families.build import new_sub_block
from puzzledsl.models.families.rounded_cache import RoundCache
from puzzledsl.models.families.slots import load_module_weights, weights_of, weights_on_demand
from puzzledsl.models.kernels.products import repeatable
from puzzledsl.models.least_squares.grams import LayerStatistics

State = dict[str, Tensor]  # weights by their names inside the sub-block


class ParentLayer(Record):
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
        """Return the parent's weights, not copied; read one by one where memory is short (`slots.weights_on_demand`)."""
        return weights_on_demand(access.sub_block_of(self.layer, sub_block))


def cannot_initialise(alternative: Alternative, reason: str) -> DiagnosticError:
    """Return the error for an alternative that this parent does not allow."""
    return DiagnosticError(CannotInitialise(None, alternative=alternative.name, reason=reason))


def like(weight: Tensor, model: Tensor) -> Tensor:
    """Return a fitted weight with the dtype and device of one of the parent's."""
    return weight.detach().to(model).contiguous()


GROUP = "puzzledsl.models.alternatives"


def module_class(alternative: Alternative) -> type[nn.Module] | None:
    """Return the module class whose source a checkpoint must contain; None if the family's own classes make the alternative."""
    return None if alternative.in_families else cast(type[nn.Module], _file_of(alternative).MODULE)


def _file_of(alternative: Alternative) -> Any:
    """Return the file of an alternative. Raises DiagnosticError: CannotRealise, BrokenModule."""
    if (found := _file(alternative.kind)) is None:
        raise DiagnosticError(CannotRealise(None, alternative=alternative.name))
    return found


@cache
def _file(kind: str) -> Any:
    """Return the file of this folder or of an installed package; None if there is none. Raises DiagnosticError (BrokenModule)."""
    name = f"{__package__}.{kind}"
    if find_spec(name) is not None and hasattr(found := import_module(name), "initialise"):
        return found
    for entry in entry_points(group=GROUP, name=kind):
        try:
            found = entry.load()
            missing = [name for name in ("build", "initialise", "MODULE") if not hasattr(found, name)]
            reason = f"`{entry.value}` has no {', '.join(missing)}" if missing else ""
        except Exception as error:  # whatever the package's code raises
            reason = f"{type(error).__name__}: {error}"
        if reason:
            raise DiagnosticError(BrokenModule(None, alternative=kind, reason=reason))
        return found
    return None


def build_alternative(
    model_or_config: PreTrainedModel | PreTrainedConfig,
    layer_idx: int,
    alternative: Alternative,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    of_base: bool = False,
) -> nn.Module:
    """Build a module with the call signature and outputs of the sub-block it replaces. Its weights are uninitialised.

    `dtype` and `device` default to the model's (float32 on the CPU for a config). A no-op has no weights. `of_base`: the
    alternative is relative to the base family's layer, not to the parent's. Raises DiagnosticError: CannotRealise, BrokenModule.
    """
    config = model_or_config
    if isinstance(model_or_config, PreTrainedModel):
        config = model_or_config.config
        dtype, device = dtype or model_or_config.dtype, device or model_or_config.device
    assert isinstance(config, PreTrainedConfig)
    alternative = alternative if of_base else on_base(config, layer_idx, alternative)
    site = Site(config, base_shape_of(config).at(layer_idx), layer_idx, dtype or torch.float32, device)
    if alternative.in_families:
        return with_cache(new_sub_block(site, alternative), alternative.cache)
    made = cast(nn.Module, _file_of(alternative).build(alternative, site))
    _require_declared(alternative, site.shape, weights_of(made), "the module has")
    return with_cache(made, alternative.cache)


def _require_declared(alternative: Alternative, shape: Shape, found: Mapping[str, Tensor], by: str) -> None:
    """Raise DiagnosticError (BrokenModule) unless weights have the names and shapes that their alternative declares."""
    has = {name: tuple(weight.shape) for name, weight in found.items()}
    says = {name: tuple(weight.shape) for name, weight in alternative.weights(shape).items()}
    for name in sorted(has.keys() | says.keys()):
        if has.get(name) != says.get(name):
            said, had = ("none" if name not in each else str(list(each[name])) for each in (says, has))
            reason = f"`{name}`: `weights` says {said}, {by} {had}"
            raise DiagnosticError(BrokenModule(None, alternative=alternative.kind, reason=reason))


def with_cache(module: nn.Module, cache: str | None) -> nn.Module:
    """Make an attention round keys and values from now on as a KV cache of type `cache` does (None: not at all); return it."""
    if cache is not None:
        module.register_forward_pre_hook(RoundCache(cache), with_kwargs=True)
    return module


def initialise(
    layer: nn.Module, alternative: Alternative, statistics: LayerStatistics, init: Initialisers, shape: Shape
) -> State:
    """Return the initial weights of one alternative; empty for a no-op, the parent's own for `parent`. `shape`: the layer's.

    Names are those inside the sub-block: `q_proj.weight`, `down_proj.weight`, `linear.weight`. Weights have the parent's
    dtype. Raises DiagnosticError: CannotInitialise, CannotRealise, BrokenModule.
    """
    parent = ParentLayer(layer, shape, statistics, init)
    with repeatable(statistics.attention.xx.device):
        if alternative.removes or alternative.kind == "parent":
            return {} if alternative.removes else parent.weights(cast(SubBlock, alternative.sub_block))
        state = cast(State, _file_of(alternative).initialise(alternative, parent))
    if not alternative.in_families:
        _require_declared(alternative, shape, state, "`initialise` gives")
    return state
