"""Weights in a checkpoint's files: one tensor an expert, fused ones, or fused ones in MXFP4; joined projections.

Reading gives canonical names, each of which reads one expert's share alone. Writing gives the fused parameters that
transformers' classes have, again one expert at a time. The names and shapes that an architecture requires are known before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.weights import Shapes
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.family import Family
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.errors import WeightsDontFit
from puzzledsl.models.families.fused import (
    BLOCK,
    Part,
    Whole,
    beginning,
    canonical_name,
    dequantised,
    parameter_name,
    whole_name,
    wholes_of,
)
from puzzledsl.models.families.tensors import LazyTensor

Tensors = Mapping[str, LazyTensor]
_Rename = Callable[[str, Family], str]


def canonical(stored: Tensors, wanted: Shapes, family: Family) -> tuple[dict[str, LazyTensor], list[str]]:
    """Return a checkpoint's tensors by canonical names, and what is wrong with its fused ones, given the `wanted` weights."""
    own = {beginning(name, family.published): tensor for name, tensor in stored.items()}
    found = {_renamed(name, family, canonical_name): tensor for name, tensor in own.items()}
    wrong: list[str] = []
    block = lru_cache(1)(_block)
    for whole in wholes_of(wanted, family):
        if (tensor := _whole(found, whole, wrong)) is None:
            continue
        for name, part in whole.parts.items():
            if name in found:
                wrong.append(f"`{name}` is there twice: by itself and in `{whole.name}`")
            found[name] = _part_of(tensor, part, wanted[name], block)
    return found, wrong


def as_parameters(weights: Tensors, family: Family) -> dict[str, LazyTensor]:
    """Return canonical weights as the parameters of transformers' classes; fused matrices first, where files align them."""
    held: dict[str, tuple[str, LazyTensor]] = {}
    for whole in wholes_of({name: weight.shape for name, weight in weights.items()}, family):
        held |= dict.fromkeys(whole.parts, (whole.name, _assembled(whole, weights)))
    named = ((_renamed(name, family, parameter_name), weight) for name, weight in weights.items())
    found = dict(held.get(old, new) for old, new in zip(weights, named, strict=True))
    return dict(sorted(found.items(), key=lambda item: len(item[1].shape) < 3))


def stored_name(name: str, family: Family) -> str:
    """Return the name of a canonical weight's parameter in transformers' classes, unless it is an expert's."""
    return whole_name(_renamed(name, family, parameter_name), family)


def _renamed(name: str, family: Family, rename: _Rename) -> str:
    found = re.match(rf"{re.escape(family.layers)}\.\d+\.\w+\.", name) if family.mixture.renamed else None
    return name if found is None else found[0] + rename(name.removeprefix(found[0]), family)


def _whole(found: dict[str, LazyTensor], fused: Whole, wrong: list[str]) -> LazyTensor | None:
    """Take a parameter that holds several weights out of the stored ones; None if it is not there."""
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
    fused: Whole, blocks: LazyTensor | None, scales: LazyTensor | None, wrong: list[str]
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


def _block(whole: LazyTensor, expert: int) -> Tensor:
    """Return one expert's entry of a fused tensor: gate and up are read one after the other, and lie in one."""
    return whole.rows(expert, expert + 1)


def _part_of(
    whole: LazyTensor, part: Part, shape: tuple[int, ...], block: Callable[[LazyTensor, int], Tensor]
) -> LazyTensor:
    """Return a weight as a part of a parameter; of rows, some can be read alone. `block`: `_block`, which keeps the last."""
    if part.kind:
        read = lambda: part.view(block(whole, part.start)).contiguous()  # noqa: E731
        return LazyTensor(shape, whole.dtype, read)

    def some(start: int, stop: int) -> Tensor:
        return whole.rows(part.start + start, part.start + stop)

    return LazyTensor(shape, whole.dtype, lambda: some(0, shape[0]).contiguous(), some)


def _assembled(whole: Whole, weights: Tensors) -> LazyTensor:
    """Return a parameter that reads its parts one at a time."""
    dtype = weights[next(iter(whole.parts))].dtype

    def rows(start: int, stop: int) -> Tensor:
        storage = torch.empty((stop - start, *whole.shape[1:]), dtype=dtype)
        for name, part in whole.parts.items():
            low, high = max(start, part.start), min(stop, part.stop)
            if low < high:
                all_of_it = (low, high) == (part.start, part.stop)
                weight = weights[name]
                value = weight.read() if all_of_it else weight.rows(low - part.start, high - part.start)
                part.view(storage[low - start : high - start]).copy_(value)
        return storage

    return LazyTensor(whole.shape, dtype, lambda: rows(0, whole.shape[0]), rows)


Layer = tuple[AttentionAlternative, FfnAlternative]


def inventory(shape: Shape, layers: Sequence[Layer] | None = None) -> Shapes:
    """Return names and shapes of all weights of a model of this shape with these layers, without those removed or tied."""
    family = FAMILIES[shape.family]
    found: Shapes = {f"{family.embedding}.weight": (shape.vocab, shape.hidden)}
    for index in range(shape.layers):
        attention, ffn = layers[index] if layers is not None else (ParentAttention(), ParentFfn())
        prefix, here = f"{family.layers}.{index}.", shape.at(index)
        names = family.names(here)
        for alternative, part in ((attention, names.attention), (ffn, names.ffn)):
            own = alternative.weights(here)
            if part is None or not own:
                continue
            found |= {f"{prefix}{norm}.weight": (shape.hidden,) for norm in part.norms}
            found |= {f"{prefix}{part.module}.{name}": weight.shape for name, weight in own.items()}
    found[f"{family.final_norm}.weight"] = (shape.hidden,)
    if not shape.tied:
        found[f"{family.head}.weight"] = (shape.vocab, shape.hidden)
    return found


def select(
    directory: Path, shape: Shape, weights: Mapping[str, LazyTensor], layers: Sequence[Layer] | None = None
) -> dict[str, LazyTensor]:
    """Return the weights of the architecture, in its order.

    Names are canonical, whatever form the experts of a mixture are stored in. Raises DiagnosticError (WeightsDontFit) if one
    is missing or has a wrong shape, or if there are others. A copy of a tied head and the tables of old checkpoints are
    allowed.
    """
    wanted, family = inventory(shape, layers), FAMILIES[shape.family]
    weights, reasons = canonical(weights, wanted, family)
    missing = sorted(set(wanted) - set(weights))
    odd = sorted(name for name in set(weights) - set(wanted) if not _harmless(name, shape))
    wrong = [name for name in wanted if name in weights and weights[name].shape != wanted[name]]
    if wrong:
        first = wrong[0]
        found, size = list(weights[first].shape), list(wanted[first])
        what = f"`{stored_name(first, family)}` is {found}, and should be {size}"
        reasons.append(what + (f" ({len(wrong) - 1} more like it)" if len(wrong) > 1 else ""))
    for names, what in ((missing, "missing"), (odd, "unexpected")):
        if names:
            first_names = ", ".join(stored_name(name, family) for name in names[:3])
            reasons.append(f"{len(names)} {what} weights ({first_names}{', …' * (len(names) > 3)})")
    if reasons:
        raise DiagnosticError(*(WeightsDontFit(None, path=directory, reason=reason) for reason in reasons))
    return {name: weights[name] for name in wanted}


def _harmless(name: str, shape: Shape) -> bool:
    tied_head = shape.tied and name == f"{FAMILIES[shape.family].head}.weight"
    # layers for multi-token prediction, which transformers does not run either, and what sees pictures
    extra = name.startswith(("mtp.", *FAMILIES[shape.family].others))
    return tied_head or extra or name.endswith(".rotary_emb.inv_freq")
