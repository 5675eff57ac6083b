"""Places of weights in a model's modules, by canonical names: whole parameters, or shares of one that holds several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from puzzledsl.families.family import Family
from puzzledsl.models.families.access import HeadsView, family_of
from puzzledsl.models.families.fused import Rows, Share, canonical_name, names_of_shares, rows_of_module, view


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter of a module, or a share of it."""

    holder: nn.Module
    name: str
    share: Callable[[Tensor], Tensor] | None = None
    """Return the share of the whole parameter, sharing its memory; None: all of it."""

    @property
    def weight(self) -> Tensor:
        """Return the present weight, a view of the parameter."""
        whole = cast(Tensor, getattr(self.holder, self.name)).detach()
        return whole if self.share is None else self.share(whole)

    def put(self, value: Tensor, device: torch.device | str, dtype: torch.dtype) -> None:
        """Set the weight. A whole parameter takes the value's memory; a share is copied into storage made by `allocate`.

        A buffer keeps its own dtype.
        """
        if not isinstance(getattr(self.holder, self.name), nn.Parameter):
            setattr(self.holder, self.name, value.to(device=device, dtype=self.weight.dtype))
        elif self.share is None:
            value = value.to(device=device, dtype=dtype)
            setattr(self.holder, self.name, nn.Parameter(value, requires_grad=False))
        else:
            self.weight.copy_(value)

    def clear(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Drop the parameter: a single NaN, expanded to its shape, takes its place. A buffer stays."""
        whole = getattr(self.holder, self.name)
        if isinstance(whole, nn.Parameter):
            nothing = torch.full((), torch.nan, dtype=dtype, device=device)
            setattr(self.holder, self.name, nn.Parameter(nothing.expand(whole.shape), requires_grad=False))


def slots(module: nn.Module) -> dict[str, Slot]:
    """Return the places of all weights of a module, of a sub-block or of a model, in the order of their parameters.

    Buffers that checkpoints hold are weights, too: the correction bias of a router.
    """
    found: dict[str, Slot] = {}
    mixtures = {
        path: family_of(cast(Any, inner).experts.config)
        for path, inner in module.named_modules()
        if isinstance(getattr(inner, "experts", None), nn.Module)
    }
    joined, stored = _joined(module), module.state_dict(keep_vars=True)
    for path, inner in module.named_modules(remove_duplicate=False):
        own = f"{path}." if path else ""
        holder, _, last = path.rpartition(".")
        family = mixtures.get(holder) if last == "experts" else None
        own_weights = chain(
            inner.named_parameters(recurse=False, remove_duplicate=False),
            inner.named_buffers(recurse=False, remove_duplicate=False),
        )
        for name, parameter in own_weights:
            if own + name not in stored:  # a buffer that no checkpoint holds
                continue
            if own + name in joined:
                found |= {part: Slot(inner, name, rows.of) for part, rows in joined[own + name]}
            elif family is not None and parameter.ndim > 1:
                found |= _shares(inner, name, len(parameter), holder, family)
            else:
                found[_canonical(own + name, mixtures)] = Slot(inner, name)
    return found


def _joined(module: nn.Module) -> dict[str, list[tuple[str, Rows]]]:
    """Return the canonical names of the rows of each joined projection, by the projection's name."""
    found: dict[str, list[tuple[str, Rows]]] = {}
    for path, inner in module.named_modules():
        config, start = getattr(inner, "config", None), f"{path}." if path else ""
        config = config.config if isinstance(config, HeadsView) else config
        if isinstance(config, PreTrainedConfig):
            for name, rows in rows_of_module(inner, family_of(config)):
                found.setdefault(start + rows.whole, []).append((start + name, rows))
    return found


def _shares(inner: nn.Module, name: str, experts: int, holder: str, family: Family) -> dict[str, Slot]:
    parameter = f"{holder}.experts.{name}" if holder else f"experts.{name}"

    def taker(share: Share) -> Callable[[Tensor], Tensor]:
        return lambda whole: view(whole[share.expert], share, family)

    shares = names_of_shares(parameter, experts)
    return {canonical: Slot(inner, name, taker(share)) for canonical, share in shares}


def _canonical(name: str, mixtures: Mapping[str, Family]) -> str:
    for path, family in mixtures.items():
        start = f"{path}." if path else ""
        if name.startswith(start):
            return start + canonical_name(name.removeprefix(start), family)
    return name


def allocate(places: Iterable[Slot], device: torch.device | str, dtype: torch.dtype) -> None:
    """Give storage to the parameters of which some places are shares."""
    shared = {(id(slot.holder), slot.name): slot for slot in places if slot.share is not None}
    for slot in shared.values():
        shape = cast(Tensor, getattr(slot.holder, slot.name)).shape
        storage = torch.empty(shape, dtype=dtype, device=device)
        setattr(slot.holder, slot.name, nn.Parameter(storage, requires_grad=False))


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a sub-block's weights by their canonical names, as views of its parameters."""
    return {name: slot.weight for name, slot in slots(module).items()}


def load_weights_into(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights, by their canonical names, into a module. Raises KeyError unless the names are exactly the module's."""
    places = slots(module)
    if different := sorted(set(places) ^ set(weights)):
        raise KeyError(f"weights of another module: {', '.join(different[:4])}")
    with torch.no_grad():
        for name, slot in places.items():
            slot.weight.copy_(weights[name])
