"""Tensors as NumPy arrays for Ray's object store.

The store maps arrays into the reader's memory; it pickles tensors in band, at a tenth of the speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_VIEWED = {1: torch.uint8, 2: torch.int16}
"""Integers of the size of a dtype that NumPy lacks (bfloat16, float8)."""
_KNOWN = {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
}


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor's content and the name of its dtype."""

    array: NDArray[Any]
    dtype: str


def pack(value: Any) -> Any:
    """Replace the tensors in nested lists, tuples, dicts and dataclasses by views of their content on the CPU."""
    if isinstance(value, Tensor):
        held = value.detach().cpu().contiguous()
        name = str(held.dtype).removeprefix("torch.")
        return Packed((held if held.dtype in _KNOWN else held.view(_VIEWED[held.itemsize])).numpy(), name)
    return _nested(value, pack)


def unpack(value: Any) -> Any:
    """Invert `pack`. Tensors are copies: the store's memory is read-only, and a write to it would end the process."""
    if isinstance(value, Packed):
        return torch.from_numpy(np.array(value.array)).view(getattr(torch, value.dtype))
    return _nested(value, unpack)


def _nested(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a change to what a container holds. A container in which nothing changes is returned as it is."""
    match value:
        case dict():
            changed = {key: change(each) for key, each in value.items()}
            return changed if _differ(changed.values(), value.values()) else value
        case list() | tuple() if type(value) in (list, tuple):
            items = [change(each) for each in value]
            return type(value)(items) if _differ(items, value) else value
        case _ if is_dataclass(value) and not isinstance(value, type):
            held = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
            new = {name: change(each) for name, each in held.items()}
            return replace(value, **new) if _differ(new.values(), held.values()) else value
    return value


def _differ(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return any(one is not other for one, other in zip(new, old, strict=True))
