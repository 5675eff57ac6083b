"""Weights in a checkpoint's files: one tensor an expert, fused ones, or fused ones in MXFP4; joined projections.

Reading gives canonical names, each of which reads one expert's share alone. Writing gives the fused parameters that
transformers' classes have, again one expert at a time. The names and shapes that an architecture requires are known before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.weights import Shapes
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.family import Family
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.errors import AbsurdConfig, WeightsDontFit
from puzzledsl.models.families.fused import (
    BLOCK,
    Rows,
    Share,
    canonical_name,
    dequantised,
    fused_shape,
    parameter_name,
    rows_of,
    share_of,
    view,
    whole_name,
)
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
    """Return a checkpoint's tensors by canonical names, and what is wrong with its fused ones, given the `wanted` weights."""
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


Layer = tuple[AttentionAlternative, FfnAlternative]

LIMITS: dict[str, int] = {
    "num_hidden_layers": 10_000,
    "hidden_size": 1 << 20,
    "num_attention_heads": 1 << 16,
    "num_key_value_heads": 1 << 16,
    "head_dim": 1 << 16,
    "intermediate_size": 1 << 24,
    "vocab_size": 1 << 26,
    "num_experts": 1 << 12,
    "num_local_experts": 1 << 12,
    "num_experts_per_tok": 1 << 12,
    "n_routed_experts": 1 << 12,
    "moe_intermediate_size": 1 << 24,
    "moe_shared_expert_intermediate_size": 1 << 24,
    "shared_expert_intermediate_size": 1 << 24,
    **dict.fromkeys(("mamba_num_heads", "linear_num_value_heads", "linear_num_key_heads"), 1 << 16),
    **dict.fromkeys(("mamba_head_dim", "linear_value_head_dim", "linear_key_head_dim"), 1 << 16),
    **dict.fromkeys(("n_groups", "ssm_state_size", "conv_kernel", "linear_conv_kernel_dim"), 1 << 16),
}
"""Limits far above any model, and low enough that an allocation of one such size does not exhaust memory."""


def check_sizes(directory: Path, content: Mapping[str, Any]) -> None:
    """Raise DiagnosticError (AbsurdConfig) for each size of a config.json that exceeds its limit."""
    found = [
        AbsurdConfig(None, path=directory, name=name, value=_short(content[name]), low=1, high=high)
        for name, high in LIMITS.items()
        if content.get(name) is not None and not _whole_up_to(content[name], high)
    ]
    if found:
        raise DiagnosticError(*found)


def _whole_up_to(value: object, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= high


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


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
