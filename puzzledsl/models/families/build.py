"""Fresh modules of a family's sub-blocks in another size, and what stands in their place: one matrix, or nothing.

The only place that constructs transformers' layer classes. Modules are put into a model or into a copy of a layer, and the slots
of a KV cache are renumbered after them. Shapes: B sequences, S positions, H hidden.
"""

import copy
import inspect
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.base.diagnostics import CannotRealise, DiagnosticError
from puzzledsl.base.frozen import Record
from puzzledsl.families.family import Part
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.families import access
from puzzledsl.models.families.slots import classes_of
from puzzledsl.models.families.window import LimitWindow
from puzzledsl.models.transformers_private import with_own_modules


class Site(Record):
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


def new_sub_block(site: Site, alternative: Alternative) -> nn.Module:
    """Return the module of an alternative to a family's layer; weights are allocated, not initialised. Raises DiagnosticError."""
    own, attends = alternative.alone(site.shape), alternative.sub_block == "attention"
    classes, config = classes_of(access.family_of(site.config).model_type), site.config
    match own.mixer if attends else own.ffn:
        case "attention":
            return _attention(site, own)
        case "dense":
            return _construct(classes.ffn, site, {"intermediate_size": own.intermediate})
        case "moe":
            names = access.family_of(config).mixture
            if site.shape.ffn != "moe" or classes.mixture is None:
                raise DiagnosticError(CannotRealise(None, alternative=alternative.name))
            sizes = {names.count: own.experts, names.width: own.expert_width}
            sizes["num_experts_per_tok"] = own.top_k
            module: Any = _construct(classes.mixture, site, sizes)
            module.experts.config = config  # and so the model's implementation of experts
            return cast(nn.Module, module)
        case kind:
            size = own.hidden if kind == "linear" else None
            pair = site.part("attention" if attends else "ffn").pair
            return Substitute(size, pair=pair, dtype=site.dtype, device=site.device)


def _attention(site: Site, own: Shape) -> nn.Module:
    """Return attention with the heads and the window of the layer `own`, its weights uninitialised.

    The module keeps the model's own `config`, so that it follows the model's attention implementation; a config copied
    for one layer would lose it, and attention would silently stop being causal.
    """
    config, base, heads = site.config, site.shape, own.heads
    sizes = {"num_key_value_heads": own.kv_heads}
    if heads != base.heads:
        head_dim = access.shape_of(config).at(site.layer_idx).head_dim
        sizes |= {"num_attention_heads": heads, "head_dim": head_dim}
    module: Any = _construct(classes_of(access.family_of(config).model_type).attention, site, sizes)
    if heads != base.heads:
        module.config = access.HeadsView(config, heads)
    if own.window is not None and (own.window, own.window_sinks) != (base.window, base.window_sinks):
        limit = LimitWindow(own.window, own.window_sinks)
        module.register_forward_pre_hook(limit, with_kwargs=True)
    return cast(nn.Module, module)


def arguments_of(module_class: type[nn.Module]) -> tuple[str, ...]:
    """Return the names of a class's constructor arguments, such as `config`, `layer_idx` or `intermediate_size`."""
    return tuple(inspect.signature(module_class).parameters)


def _construct(module_class: type[nn.Module], site: Site, sizes: dict[str, int]) -> nn.Module:
    resized = copy.deepcopy(site.config)
    for name, value in sizes.items():
        setattr(resized, name, value)
    known = {"config": resized, "layer_idx": site.layer_idx, **sizes}
    with torch.device("meta"):
        module = module_class(**{name: known[name] for name in arguments_of(module_class) if name in known})
    for parameter in module.parameters():  # buffers keep their own
        parameter.data = parameter.data.to(site.dtype)
    module.to_empty(device=site.device or "cpu")
    held: Any = module
    held.config = site.config
    return module.eval()


class Substitute(nn.Module):
    """One matrix, `size` x `size`, without a bias; or, if `size` is None, zeros that take no memory. `pair`: returns a tuple."""

    def __init__(
        self,
        size: int | None = None,
        *,
        pair: bool,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.pair = pair
        self.linear = None if size is None else nn.Linear(size, size, bias=False, dtype=dtype, device=device)
        self.eval()

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Map [B, S, H] to [B, S, H]; return (output, None) in place of a module that returns a tuple."""
        zeros = hidden_states.new_zeros(()).expand_as(hidden_states)
        output = zeros if self.linear is None else self.linear(hidden_states)
        return (output, None) if self.pair else output


class NoNorm(nn.Identity):
    """Norm of a removed sub-block. It has no weights, but some layers ask its `weight` for the dtype of the norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        weight: Any = norm.weight
        self.__dict__["weight"] = torch.empty(0, dtype=weight.dtype, device="cpu")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self.__dict__["weight"] = fn(self.__dict__["weight"])
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def put(model: PreTrainedModel, layer_idx: int, sub_block: SubBlock, module: nn.Module) -> None:
    """Replace a sub-block permanently; a no-op also removes its norms. Call `number_cache_slots` after the last one."""
    layer = access.layers(model)[layer_idx]
    held: Any = module
    own = getattr(module, "config", None)
    if isinstance(own, access.HeadsView):
        held.config = access.HeadsView(model.config, own.num_attention_heads)
    elif own is not None:
        held.config = model.config  # so that it follows the model's attention implementation
    if hasattr(module, "layer_idx"):
        held.layer_idx = layer_idx
    _set(layer, sub_block, module)


def _set(layer: nn.Module, sub_block: SubBlock, module: nn.Module) -> None:
    own = access.part(layer, sub_block)
    setattr(layer, own.module, module)
    if isinstance(module, Substitute) and module.linear is None:
        for name in own.norms:
            setattr(layer, name, NoNorm(getattr(layer, name)))


def with_modules(layer: nn.Module, modules: Mapping[SubBlock, nn.Module]) -> nn.Module:
    """Return a copy of a layer that shares its modules but for these sub-blocks. The layer is not changed."""
    copied = with_own_modules(layer)
    for sub_block, module in modules.items():
        _set(copied, sub_block, module)
    return copied


def without(layer: nn.Module, sub_block: SubBlock) -> nn.Module:
    """Return a copy of a layer that shares its modules, with a no-op for one sub-block; the layer itself if it lacks that."""
    own = access.part_of(layer, sub_block)
    return layer if own is None else with_modules(layer, {sub_block: Substitute(pair=own.pair)})


def number_cache_slots(model: PreTrainedModel) -> None:
    """Number the modules that still have a cache: each takes the first free slot of its layer's type (`layer_types`).

    With one type, slots run from 0: transformers reads the number of cached tokens from slot 0, so some layer must fill it.
    """
    kinds = getattr(model.config, "layer_types", None) or ["full_attention"] * len(access.layers(model))
    free: dict[str, deque[int]] = defaultdict(deque)
    for slot, kind in enumerate(kinds):
        free[kind].append(slot)
    for layer, kind in zip(access.layers(model), kinds, strict=True):
        own = access.part_of(layer, "attention")
        held: Any = None if own is None else getattr(layer, own.module)
        if hasattr(held, "layer_idx"):  # it has a KV cache
            held.layer_idx = free[kind].popleft()
