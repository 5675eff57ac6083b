"""Weights in a checkpoint's files: one tensor an expert, fused ones, or fused ones in MXFP4; joined projections.

Reading gives canonical names, those of Qwen3-MoE's checkpoints (`experts.{e}.gate_proj.weight`), each of which reads one expert's
share alone. Writing gives the fused parameters that transformers' classes have, again one expert at a time. The names and shapes
that an architecture requires are known before. MXFP4 has blocks of 32 numbers of 4 bits (E2M1) that share a power of two (E8M0;
OCP Microscaling Formats (MX) Specification 1.0, sections 5.3.3, 5.4.1 and 6). A joined projection has the rows of queries, keys
and values, or of gate and up.

Shapes: E experts, H hidden, W channels; R rows, B blocks of a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.weights import Shapes
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.frozen import Record
from puzzledsl.families.block_configs import Layer
from puzzledsl.families.family import Family
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.errors import WeightsDontFit
from puzzledsl.models.families.tensors import LazyTensor

Tensors = Mapping[str, LazyTensor]


def canonical(stored: Tensors, wanted: Shapes, family: Family) -> tuple[dict[str, LazyTensor], list[str]]:
    """Return a checkpoint's tensors by canonical names, and messages on fused ones that do not fit the shapes in `wanted`."""
    own = {beginning(name, family.published): tensor for name, tensor in stored.items()}
    ours = _ours(family)
    found = {_renamed(name, family, ours): tensor for name, tensor in own.items()}
    wrong: list[str] = []
    # one expert's entry: gate and up are read one after the other, and lie in one
    block = lru_cache(1)(lambda fused, expert: fused.rows(expert, expert + 1))
    for whole in wholes_of(wanted, family):
        if (tensor := _whole(found, whole, wrong)) is None:
            continue
        for name, part in whole.parts.items():
            if name in found:
                wrong.append(f"`{name}` is there twice: by itself and in `{whole.name}`")
            found[name] = _part_of(tensor, part, wanted[name], block)
    return found, wrong


def as_parameters(weights: Tensors, family: Family) -> dict[str, LazyTensor]:
    """Return canonical weights as the parameters of transformers' classes; fused matrices first, where a file is aligned."""
    held: dict[str, tuple[str, LazyTensor]] = {}
    for whole in wholes_of({name: weight.shape for name, weight in weights.items()}, family):
        held |= dict.fromkeys(whole.parts, (whole.name, _assembled(whole, weights)))
    named = ((_renamed(name, family, family.mixture.renamed), weight) for name, weight in weights.items())
    found = dict(held.get(old, new) for old, new in zip(weights, named, strict=True))
    return dict(sorted(found.items(), key=lambda item: len(item[1].shape) < 3))


def stored_name(name: str, family: Family) -> str:
    """Return the name of a canonical weight's parameter in transformers' classes, unless it is an expert's."""
    prefix, part, kind = _apart(name := _renamed(name, family, family.mixture.renamed))
    return next((f"{prefix}{w}.{kind}" for w, parts in family.joined.items() if part in parts), name)


def _renamed(name: str, family: Family, starts: Mapping[str, str]) -> str:
    """Return a weight's name in the model, its part inside the sub-block changed by `starts` (old beginning -> new)."""
    found = re.match(rf"{re.escape(family.layers)}\.\d+\.\w+\.", name) if starts else None
    return name if found is None else found[0] + beginning(name.removeprefix(found[0]), starts)


def _whole(found: dict[str, LazyTensor], fused: Whole, wrong: list[str]) -> LazyTensor | None:
    """Remove a parameter that holds several weights from `found`, and return it or None. Add what does not fit to `wrong`."""
    plain = found.pop(fused.name, None)
    blocks, scales = (found.pop(fused.name + end, None) for end in ("_blocks", "_scales"))
    if blocks is None and scales is None:
        if plain is not None and plain.shape != fused.shape:
            wrong.append(_misshapen(fused.name, plain, fused.shape))
        return plain
    if plain is not None:
        wrong.append(f"`{fused.name}` is there twice: by itself and as blocks of MXFP4")
    for end, tensor in (("_blocks", blocks), ("_scales", scales)):
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


def _part_of(
    whole: LazyTensor, part: Part, shape: tuple[int, ...], block: Callable[[LazyTensor, int], Tensor]
) -> LazyTensor:
    """Return the weight that is `part` of a parameter. `block` reads an expert's entry and keeps the last one in memory."""
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
    is missing or has a wrong shape, or if there are others. A copy of the embedding as a tied head and the tables of old
    checkpoints are allowed.
    """
    wanted, family = inventory(shape, layers), FAMILIES[shape.family]
    weights, reasons = canonical(weights, wanted, family)
    head, embedding = (weights.get(f"{name}.weight") for name in (family.head, family.embedding))
    if shape.tied and head is not None and embedding is not None and not _same(head, embedding):
        reasons.append(
            f"`{family.head}.weight` is not the embedding; set `tie_word_embeddings` to false if it should not be"
        )
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


def _same(first: LazyTensor, second: LazyTensor) -> bool:
    begin, second = 0, second.cast(first.dtype)
    for rows in first.chunks():
        if not torch.equal(rows, second.rows(begin, begin + len(rows))):
            return False
        begin += len(rows)
    return first.shape == second.shape


def _harmless(name: str, shape: Shape) -> bool:
    tied_head = shape.tied and name == f"{FAMILIES[shape.family].head}.weight"
    # layers for multi-token prediction, which transformers does not run either, and what sees pictures
    extra = name.startswith(("mtp.", *FAMILIES[shape.family].others))
    return tied_head or extra or name.endswith(".rotary_emb.inv_freq")


BLOCK = 32  # numbers that share a scale; two are in a byte, the first in its low half
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E2M1 = (*_MAGNITUDES, *(-value for value in _MAGNITUDES))
_BIAS = 127
_NOT_A_NUMBER = 255


def dequantised(blocks: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the numbers [..., R, 32 B] of `blocks` [..., R, B, 16] (uint8) with `scales` [..., R, B] (uint8)."""
    table = torch.tensor(_E2M1, device=blocks.device)
    pairs = torch.stack((blocks & 0x0F, blocks >> 4), -1).flatten(-2).int()
    exponents = scales.to(torch.int32) - _BIAS
    values = torch.ldexp(table[pairs], exponents[..., None])
    values[scales == _NOT_A_NUMBER] = torch.nan
    return values.flatten(-2).to(dtype)


class Part(Record):
    """A canonical weight in a parameter that holds several: as entries `start` to `stop - 1` of its first dimension."""

    whole: str
    """Its name: `self_attn.qkv_proj.weight`; `experts.gate_up_proj`, [E, 2 W, H] or, transposed, [E, H, 2 W]."""
    start: int
    stop: int
    kind: str = ""  # `gate`, `up` or `down` of an expert; empty for rows of a joined projection
    interleaved: bool = False

    def of(self, whole: Tensor) -> Tensor:
        """Return the weight, sharing the memory of the parameter."""
        return self.view(whole[self.start : self.stop])

    def view(self, entries: Tensor) -> Tensor:
        """Return the weight in these entries of the parameter, sharing memory."""
        if not self.kind:
            return entries
        block = entries[0]
        rows = block.T if self.interleaved and block.ndim == 2 else block
        if not self.whole.removesuffix("_bias").endswith("gate_up_proj"):
            return rows
        if self.interleaved:
            return rows[self.kind == "up" :: 2]
        half = len(rows) // 2
        return rows[:half] if self.kind == "gate" else rows[half:]


class Whole(Record):
    """A parameter that holds several canonical weights, by their names."""

    name: str
    shape: tuple[int, ...]
    parts: Mapping[str, Part]


def wholes_of(weights: Shapes, family: Family) -> list[Whole]:
    """Return the parameters that hold several of these canonical weights: joined projections, then experts."""
    groups: dict[str, dict[str, Part]] = {}
    for name, part in (*_rows_of(weights, family), *_experts_of(weights, family)):
        groups.setdefault(part.whole, {})[name] = part
    found = []
    for whole, parts in groups.items():
        name, part = next(iter(parts.items()))
        shape, length = weights[name], max(each.stop for each in parts.values())
        if not part.kind:
            found.append(Whole(whole, (length, *shape[1:]), parts))
            continue
        if whole.removesuffix("_bias").endswith("gate_up_proj"):
            shape = (2 * shape[0], *shape[1:])
        found.append(Whole(whole, (length, *(reversed(shape) if part.interleaved else shape)), parts))
    return found


def _rows_of(weights: Shapes, family: Family) -> Iterator[tuple[str, Part]]:
    """Yield (name, rows) of each canonical weight that a family's classes join with others in one projection."""
    for name in weights:
        prefix, part, kind = _apart(name)
        for whole, parts in family.joined.items():
            names = [f"{prefix}{other}.{kind}" for other in parts]
            if part == parts[0] and all(other in weights for other in names):
                ends = accumulate((weights[other][0] for other in names), initial=0)
                places = [Part(f"{prefix}{whole}.{kind}", *ends) for ends in pairwise(ends)]
                yield from zip(names, places, strict=True)


_EXPERT = re.compile(
    r"(?P<mixture>.*?)experts\.(?P<expert>\d+)\.(?P<part>gate|up|down)_proj\.(?P<kind>weight|bias)"
)


def _experts_of(weights: Shapes, family: Family) -> Iterator[tuple[str, Part]]:
    """Yield (name, share) of each canonical weight of an expert: its share of the fused parameter."""
    gated = {name.partition("experts.")[0] for name in weights if ".gate_proj." in name}
    for name in weights:
        if (match := _EXPERT.fullmatch(name)) is not None:
            mixture, part, expert = match["mixture"], match["part"], int(match["expert"])
            stem = "gate_up" if mixture in gated and part != "down" else part
            whole = f"{mixture}experts.{stem}_proj{'_bias' if match['kind'] == 'bias' else ''}"
            yield name, Part(whole, expert, expert + 1, part, family.mixture.fused == "interleaved")


def _apart(name: str) -> tuple[str, str, str]:
    """Split `model.layers.0.mlp.up_proj.weight` into `model.layers.0.mlp.`, `up_proj` and `weight`."""
    holder, _, kind = name.rpartition(".")
    prefix, dot, part = holder.rpartition(".")
    return prefix + dot, part, kind


def rows_of_module(module: nn.Module, family: Family) -> Iterator[tuple[str, Part]]:
    """Yield (canonical name, rows) of each part of a sub-block's joined projections, which have no biases."""
    for whole, parts in family.joined.items():
        linear, output = getattr(module, whole, None), getattr(module, "o_proj", None)
        if not isinstance(linear, nn.Linear):
            continue
        queries = [output.in_features] if isinstance(output, nn.Linear) else []
        rest = (linear.out_features - sum(queries)) // 2
        ends = accumulate((*queries, rest, rest), initial=0)
        for part, (start, stop) in zip(parts, pairwise(ends), strict=True):
            yield f"{part}.weight", Part(f"{whole}.weight", start, stop)


def experts_in(parameter: str, experts: int, family: Family) -> Iterator[tuple[str, Part]]:
    """Yield (canonical name, share) of all weights in a fused parameter, expert by expert."""
    holder, _, own = parameter.rpartition("experts.")
    stem, kind = own.removesuffix("_bias"), "bias" if own.endswith("_bias") else "weight"
    parts = ("gate", "up") if stem == "gate_up_proj" else (stem.removesuffix("_proj"),)
    for e in range(experts):
        for part in parts:
            place = Part(parameter, e, e + 1, part, family.mixture.fused == "interleaved")
            yield f"{holder}experts.{e}.{part}_proj.{kind}", place


def canonical_name(name: str, family: Family) -> str:
    """Return the canonical name of a parameter that is not fused, inside the FFN: `gate.weight` of `router.weight`."""
    return beginning(name, _ours(family))


def _ours(family: Family) -> dict[str, str]:
    """Return transformers' beginnings of names inside the FFN -> canonical ones."""
    return {theirs: ours for ours, theirs in family.mixture.renamed.items()}


def beginning(name: str, starts: Mapping[str, str]) -> str:
    """Return a name with its beginning replaced by `starts` (old -> new); unchanged if it has none of them."""
    for old, new in starts.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
