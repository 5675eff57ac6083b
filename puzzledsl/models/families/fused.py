"""Experts' weights as transformers keeps them: fused into one parameter for all experts of a mixture.

Canonical names are those of Qwen3-MoE's checkpoints, `experts.{e}.gate_proj.weight`. Shapes: E experts, H hidden, W channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from puzzledsl.families.family import Family

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
    """Return the part of one expert's block of a fused parameter that is the canonical weight, sharing its memory.

    `block`: [2 W, H] (transposed: [H, 2 W]), [H, W] (transposed: [W, H]), or a bias.
    """
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
