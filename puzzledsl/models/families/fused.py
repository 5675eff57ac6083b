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
class Rows:
    """A canonical weight as rows of a joined one."""

    whole: str
    """Name of the joined weight."""
    start: int
    stop: int

    def of(self, whole: Tensor) -> Tensor:
        """Return the rows, sharing the memory of the whole."""
        return whole[self.start : self.stop]


def rows_of(weights: Shapes, family: Family) -> dict[str, Rows]:
    """Return those canonical weights that a family's classes join, as rows of the joined ones."""
    found: dict[str, Rows] = {}
    for name in weights:
        prefix, part, kind = _apart(name)
        for whole, parts in family.joined.items():
            names = [f"{prefix}{other}.{kind}" for other in parts]
            if part == parts[0] and all(other in weights for other in names):
                ends = accumulate((weights[other][0] for other in names), initial=0)
                places = [Rows(f"{prefix}{whole}.{kind}", *ends) for ends in pairwise(ends)]
                found |= dict(zip(names, places, strict=True))
    return found


def _apart(name: str) -> tuple[str, str, str]:
    """Split `model.layers.0.mlp.up_proj.weight` into `model.layers.0.mlp.`, `up_proj` and `weight`."""
    holder, _, kind = name.rpartition(".")
    prefix, dot, part = holder.rpartition(".")
    return prefix + dot, part, kind


def rows_of_module(module: nn.Module, family: Family) -> Iterator[tuple[str, Rows]]:
    """Yield (canonical name, rows) of each part of a sub-block's joined projections, which have no biases."""
    for whole, parts in family.joined.items():
        linear, output = getattr(module, whole, None), getattr(module, "o_proj", None)
        if not isinstance(linear, nn.Linear):
            continue
        queries = [output.in_features] if isinstance(output, nn.Linear) else []
        rest = (linear.out_features - sum(queries)) // 2
        ends = accumulate((*queries, rest, rest), initial=0)
        for part, (start, stop) in zip(parts, pairwise(ends), strict=True):
            yield f"{part}.weight", Rows(f"{whole}.weight", start, stop)


def whole_name(name: str, family: Family) -> str:
    """Return the name of the joined weight that has a canonical one, or the name itself."""
    prefix, part, kind = _apart(name)
    return next((f"{prefix}{w}.{kind}" for w, parts in family.joined.items() if part in parts), name)


_EXPERT = re.compile(
    r"(?P<mixture>.*?)experts\.(?P<expert>\d+)\.(?P<part>gate|up|down)_proj\.(?P<kind>weight|bias)"
)


@dataclass(frozen=True, slots=True)
class Share:
    """One expert's share of a fused parameter."""

    parameter: str
    """`experts.gate_up_proj`, [E, 2 W, H] or, transposed, [E, H, 2 W]; `experts.down_proj`; their biases end with `_bias`."""
    expert: int
    part: str
    """`gate`, `up` or `down`."""


def share_of(name: str, *, gated: bool = True) -> Share | None:
    """Return the share that a canonical name denotes; None if the name is no expert's."""
    found = _EXPERT.fullmatch(name)
    if found is None:
        return None
    part = found["part"]
    stem = "gate_up_proj" if gated and part != "down" else f"{part}_proj"
    ending = "_bias" if found["kind"] == "bias" else ""
    return Share(f"{found['mixture']}experts.{stem}{ending}", int(found["expert"]), part)


def names_of_shares(parameter: str, experts: int) -> Iterator[tuple[str, Share]]:
    """Yield the canonical names of all shares of a fused parameter, expert by expert."""
    holder, _, own = parameter.rpartition("experts.")
    stem, kind = own.removesuffix("_bias"), "bias" if own.endswith("_bias") else "weight"
    parts = ("gate", "up") if stem == "gate_up_proj" else (stem.removesuffix("_proj"),)
    for expert in range(experts):
        for part in parts:
            yield f"{holder}experts.{expert}.{part}_proj.{kind}", Share(parameter, expert, part)


def view(block: Tensor, share: Share, family: Family) -> Tensor:
    """Return the canonical weight, sharing memory, in an expert's `block`: [2 W, H], [H, W], either transposed, or a bias."""
    rows = block.T if family.mixture.fused == "interleaved" and block.ndim == 2 else block
    if not share.parameter.removesuffix("_bias").endswith("gate_up_proj"):
        return rows
    if family.mixture.fused == "interleaved":
        return rows[share.part == "up" :: 2]
    half = len(rows) // 2
    return rows[:half] if share.part == "gate" else rows[half:]


def fused_shape(share: Share, shape: tuple[int, ...], experts: int, family: Family) -> tuple[int, ...]:
    """Return the shape of the fused parameter whose shares have this shape."""
    if share.parameter.removesuffix("_bias").endswith("gate_up_proj"):
        shape = (2 * shape[0], *shape[1:])
    return (experts, *(reversed(shape) if family.mixture.fused == "interleaved" else shape))


def canonical_name(name: str, family: Family) -> str:
    """Return the canonical name of a parameter that is not fused, inside the FFN: `gate.weight` of `router.weight`."""
    return _renamed(name, {theirs: ours for ours, theirs in family.mixture.renamed.items()})


def parameter_name(name: str, family: Family) -> str:
    """Return transformers' name of a canonical weight that is not fused, inside the FFN."""
    return _renamed(name, family.mixture.renamed)


def _renamed(name: str, starts: Mapping[str, str]) -> str:
    for old, new in starts.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
