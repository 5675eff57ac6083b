"""Experts' weights and joined projections as transformers and checkpoints keep them: several canonical weights in one.

Canonical names are those of Qwen3-MoE's checkpoints, `experts.{e}.gate_proj.weight`. Fused experts are one parameter for all of
a mixture, perhaps in MXFP4: blocks of 32 numbers of 4 bits (E2M1) that share a power of two (E8M0; OCP Microscaling Formats
(MX) Specification 1.0, sections 5.3.3, 5.4.1 and 6). A joined projection has the rows of queries, keys and values, or of gate
and up.

Shapes: E experts, H hidden, W channels; R rows, B blocks of a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from puzzledsl.alternatives.weights import Shapes
from puzzledsl.families.family import Family

BLOCK = 32
"""Numbers that share a scale; two are in a byte, the first in its low half."""
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


@dataclass(frozen=True, slots=True)
class Part:
    """A canonical weight in a parameter that holds several: as entries `start` to `stop` of its first dimension."""

    whole: str
    """Its name: `self_attn.qkv_proj.weight`; `experts.gate_up_proj`, [E, 2 W, H] or, transposed, [E, H, 2 W]."""
    start: int
    stop: int
    kind: str = ""
    """`gate`, `up` or `down` of an expert; empty for rows of a joined projection."""
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


@dataclass(frozen=True, slots=True)
class Whole:
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
    """Yield those canonical weights that a family's classes join, as rows of the joined ones."""
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
    """Yield those canonical weights that are experts', as their shares of fused parameters."""
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


def whole_name(name: str, family: Family) -> str:
    """Return the name of the joined weight that has a canonical one, or the name itself."""
    prefix, part, kind = _apart(name)
    return next((f"{prefix}{w}.{kind}" for w, parts in family.joined.items() if part in parts), name)


def experts_in(parameter: str, experts: int, family: Family) -> Iterator[tuple[str, Part]]:
    """Yield the canonical names of all shares of a fused parameter, expert by expert."""
    holder, _, own = parameter.rpartition("experts.")
    stem, kind = own.removesuffix("_bias"), "bias" if own.endswith("_bias") else "weight"
    parts = ("gate", "up") if stem == "gate_up_proj" else (stem.removesuffix("_proj"),)
    for e in range(experts):
        for part in parts:
            place = Part(parameter, e, e + 1, part, family.mixture.fused == "interleaved")
            yield f"{holder}experts.{e}.{part}_proj.{kind}", place


def canonical_name(name: str, family: Family) -> str:
    """Return the canonical name of a parameter that is not fused, inside the FFN: `gate.weight` of `router.weight`."""
    return beginning(name, {theirs: ours for ours, theirs in family.mixture.renamed.items()})


def parameter_name(name: str, family: Family) -> str:
    """Return transformers' name of a canonical weight that is not fused, inside the FFN."""
    return beginning(name, family.mixture.renamed)


def beginning(name: str, starts: Mapping[str, str]) -> str:
    """Return a name with another beginning, if it has one of `starts`."""
    for old, new in starts.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
