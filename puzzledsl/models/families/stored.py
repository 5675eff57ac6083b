"""Weights in a checkpoint's files: one tensor an expert, fused ones, or fused ones in MXFP4; joined projections.

Reading gives canonical names, each of which reads one expert's share alone. Writing gives the fused parameters that
transformers' classes have, again one expert at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from puzzledsl.alternatives.weights import Shapes
from puzzledsl.families.family import Family
from puzzledsl.models.families.fused import (
    Share,
    canonical_name,
    fused_shape,
    parameter_name,
    share_of,
    view,
)
from puzzledsl.models.families.joined import Rows, rows_of, whole_name
from puzzledsl.models.families.mxfp4 import BLOCK, dequantised
from puzzledsl.models.families.tensors import LazyTensor

Tensors = Mapping[str, LazyTensor]
_Rename = Callable[[str, Family], str]


@dataclass(frozen=True, slots=True)
class Fused:
    """A fused parameter: its shape, and the shares of all experts by canonical names."""

    name: str
    shape: tuple[int, ...]
    shares: Mapping[str, Share]


def canonical(stored: Tensors, wanted: Shapes, family: Family) -> tuple[dict[str, LazyTensor], list[str]]:
    """Return a checkpoint's tensors by canonical names, and what is wrong with its fused ones.

    `wanted`: the canonical weights of the architecture.
    """
    found = {_renamed(_present(name, family), family, canonical_name): t for name, t in stored.items()}
    wrong: list[str] = []
    _part(found, wanted, family, wrong)
    last = _Last()
    for fused in _fused(wanted, family):
        whole = _whole(found, fused, wrong)
        if whole is None:
            continue
        for name, share in fused.shares.items():
            if name in found:
                wrong.append(f"`{name}` is there twice: by itself and in `{fused.name}`")
            found[name] = _share_of(whole, share, wanted[name], family, last)
    return found, wrong


def as_parameters(weights: Tensors, family: Family) -> dict[str, LazyTensor]:
    """Return canonical weights as the parameters of transformers' classes; fused matrices first, where files align them."""
    fused = _stacked(weights, family)
    for one in _fused({name: weight.shape for name, weight in weights.items()}, family):
        tensor = _joined(one, weights, family)
        fused |= dict.fromkeys(one.shares, (one.name, tensor))
    named = ((_renamed(name, family, parameter_name), weight) for name, weight in weights.items())
    found = dict(fused.get(old, new) for old, new in zip(weights, named, strict=True))
    return dict(sorted(found.items(), key=lambda item: len(item[1].shape) < 3))


def stored_name(name: str, family: Family) -> str:
    """Return the name of a canonical weight's parameter in transformers' classes, unless it is an expert's."""
    return whole_name(_renamed(name, family, parameter_name), family)


def _part(found: dict[str, LazyTensor], wanted: Shapes, family: Family, wrong: list[str]) -> None:
    """Take joined projections out of the stored tensors, and put their parts in."""
    by_whole: dict[str, dict[str, Rows]] = {}
    for name, rows in rows_of(wanted, family).items():
        by_whole.setdefault(rows.whole, {})[name] = rows
    for whole, parts in by_whole.items():
        if (tensor := found.pop(whole, None)) is None:
            continue
        size = (max(rows.stop for rows in parts.values()), *wanted[next(iter(parts))][1:])
        if tensor.shape != size:
            wrong.append(_misshapen(whole, tensor, size))
        for name, rows in parts.items():
            if name in found:
                wrong.append(f"`{name}` is there twice: by itself and in `{whole}`")
            found[name] = _rows_of(tensor, rows, wanted[name])


def _rows_of(whole: LazyTensor, part: Rows, shape: tuple[int, ...]) -> LazyTensor:
    def some(start: int, stop: int) -> Tensor:
        return whole.rows(part.start + start, part.start + stop)

    return LazyTensor(shape, whole.dtype, lambda: some(0, shape[0]).contiguous(), some)


def _stacked(weights: Tensors, family: Family) -> dict[str, tuple[str, LazyTensor]]:
    """Return the joined projection, by name, of each canonical weight that is part of one."""
    parts: dict[str, list[str]] = {}
    for name, rows in rows_of({n: w.shape for n, w in weights.items()}, family).items():
        parts.setdefault(rows.whole, []).append(name)
    return {
        name: (whole, _stack([weights[n] for n in names])) for whole, names in parts.items() for name in names
    }


def _stack(parts: list[LazyTensor]) -> LazyTensor:
    ends = list(accumulate((part.shape[0] for part in parts), initial=0))

    def some(start: int, stop: int) -> Tensor:
        ranges = [(max(start, low) - low, min(stop, high) - low) for low, high in pairwise(ends)]
        return torch.cat([p.rows(*own) for p, own in zip(parts, ranges, strict=True) if own[0] < own[1]])

    shape = (ends[-1], *parts[0].shape[1:])
    return LazyTensor(shape, parts[0].dtype, lambda: torch.cat([part.read() for part in parts]), some)


def _present(name: str, family: Family) -> str:
    """Return the name in the model of a weight in a file."""
    for old, new in family.published.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _renamed(name: str, family: Family, rename: _Rename) -> str:
    found = re.match(rf"{re.escape(family.layers)}\.\d+\.\w+\.", name) if family.mixture.renamed else None
    return name if found is None else found[0] + rename(name.removeprefix(found[0]), family)


def _fused(weights: Shapes, family: Family) -> list[Fused]:
    """Return the fused parameters that hold the experts among these canonical weights."""
    gated = {name.partition("experts.")[0] for name in weights if ".gate_proj." in name}
    groups: dict[str, dict[str, Share]] = {}
    for name in weights:
        share = share_of(name, gated=name.partition("experts.")[0] in gated)
        if share is not None:
            groups.setdefault(share.parameter, {})[name] = share
    found = []
    for parameter, shares in groups.items():
        name, share = next(iter(shares.items()))
        experts = len({one.expert for one in shares.values()})
        found.append(Fused(parameter, fused_shape(share, weights[name], experts, family), shares))
    return found


def _whole(found: dict[str, LazyTensor], fused: Fused, wrong: list[str]) -> LazyTensor | None:
    """Take a fused tensor out of the stored ones; None if it is not stored as one."""
    plain = found.pop(fused.name, None)
    parts = {end: found.pop(fused.name + end, None) for end in ("_blocks", "_scales")}
    blocks, scales = parts["_blocks"], parts["_scales"]
    if blocks is None and scales is None:
        if plain is not None and plain.shape != fused.shape:
            wrong.append(_misshapen(fused.name, plain, fused.shape))
        return plain
    if plain is not None:
        wrong.append(f"`{fused.name}` is there twice: by itself and as blocks of MXFP4")
    for end, tensor in parts.items():
        if tensor is None:
            wrong.append(f"`{fused.name}{end}` is missing")
    return _of_mxfp4(fused, blocks, scales, wrong)


def _of_mxfp4(
    fused: Fused, blocks: LazyTensor | None, scales: LazyTensor | None, wrong: list[str]
) -> LazyTensor | None:
    experts, inputs, outputs = fused.shape
    shape = (experts, outputs, inputs // BLOCK)
    for end, tensor, size in (("_blocks", blocks, (*shape, BLOCK // 2)), ("_scales", scales, shape)):
        if tensor is not None and (tensor.shape != size or tensor.dtype != torch.uint8 or inputs % BLOCK):
            wrong.append(_misshapen(fused.name + end, tensor, size, torch.uint8))
    if blocks is None or scales is None:
        return None

    def rows(start: int, stop: int) -> Tensor:
        values = dequantised(blocks.rows(start, stop), scales.rows(start, stop), torch.bfloat16)
        return values.transpose(1, 2)

    return LazyTensor(fused.shape, torch.bfloat16, lambda: rows(0, experts), rows)


def _misshapen(
    name: str, tensor: LazyTensor, shape: tuple[int, ...], dtype: torch.dtype | None = None
) -> str:
    kind = "" if dtype in (None, tensor.dtype) else f" of {str(dtype).removeprefix('torch.')}"
    return f"`{name}` is {list(tensor.shape)}, and should be {list(shape)}{kind}"


class _Last:
    """The expert that was read last: gate and up are read one after the other, and lie in one block."""

    def __init__(self) -> None:
        self._kept: tuple[LazyTensor, int, Tensor] | None = None

    def block(self, whole: LazyTensor, expert: int) -> Tensor:
        """Return one expert's block of a fused tensor."""
        kept = self._kept
        if kept is None or kept[0] is not whole or kept[1] != expert:
            self._kept = None  # let go before the next is read
            kept = whole, expert, whole.rows(expert, expert + 1)[0]
            self._kept = kept
        return kept[2]


def _share_of(
    whole: LazyTensor, share: Share, shape: tuple[int, ...], family: Family, last: _Last
) -> LazyTensor:
    def read() -> Tensor:
        return view(last.block(whole, share.expert), share, family).contiguous()

    return LazyTensor(shape, whole.dtype, read)


def _joined(fused: Fused, weights: Tensors, family: Family) -> LazyTensor:
    """Return a fused parameter that reads its experts one at a time."""
    dtype = weights[next(iter(fused.shares))].dtype

    def rows(start: int, stop: int) -> Tensor:
        storage = torch.empty((stop - start, *fused.shape[1:]), dtype=dtype)
        for name, share in fused.shares.items():
            if start <= share.expert < stop:
                view(storage[share.expert - start], share, family).copy_(weights[name].read())
        return storage

    return LazyTensor(fused.shape, dtype, lambda: rows(0, fused.shape[0]), rows)
