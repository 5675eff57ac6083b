"""Block influence of the parent's layers (ShortGPT: Men et al., arXiv 2403.03853), and the angular distance of runs of layers.

The angular distance is that of Gromov et al. (arXiv 2403.17887), over all tokens. Both come from the parent's pass, which a sweep
makes anyway. On SmolLM2 the order of layers settles between 1,024 and 2,048 positions, that of runs at 256.

Shapes: B sequences, S positions of a group; P positions that count; L layers; H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.child.healing.fit import Streams
from puzzledsl.ir.tables import BlockInfluence
from puzzledsl.models.layerwise import LayerRunner

POSITIONS = 2048
"""Number of positions to average over, if the text has them; enough for stable means."""
CHUNK = 64
"""Positions whose streams are compared at once, in float32."""
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over a group's positions for each pair of streams: 1 - cosine and angle / pi, both float64 [L + 1, L + 1]."""

    positions: int
    change_LL: Tensor
    angle_LL: Tensor


def counted(is_text: Sequence[Tensor]) -> list[Tensor]:
    """Return the flat indices, by group, of the first POSITIONS positions that are not padding."""
    left, found = POSITIONS, []
    for mask_BS in is_text:
        index_P = mask_BS.flatten().nonzero()[:left, 0]
        left -= len(index_P)
        found.append(index_P)
    return found


def observed_pass(
    runner: LayerRunner,
    groups: Sequence[Tensor],
    counted_groups: Sequence[Tensor],
    folder: Path,
    held_bytes: int,
) -> list[tuple[Tensor, Sums]]:
    """Run all layers on groups [B, S, H]; return each one's last output, [B, S, H], and the sums over its counted positions.

    All streams are compared with each other, so they are kept until the pass ends: above `held_bytes` in a file in `folder`.
    """
    hidden = list(groups)
    index = [positions.to(runner.device) for positions in counted_groups]
    streams = [Streams(runner, [at] * (len(runner) + 1), folder, held_bytes=held_bytes) for at in index]
    for layer_idx in range(len(runner) + 1):
        for kept, group, at in zip(streams, hidden, index, strict=True):
            kept[layer_idx] = group.flatten(0, 1)[at]
        if layer_idx < len(runner):
            hidden = [runner.run_layer(layer_idx, group) for group in hidden]
    return [(group, sums_of(kept)) for group, kept in zip(hidden, streams, strict=True)]


def sums_of(streams: Streams | Sequence[Tensor]) -> Sums:
    """Compare each pair of the L + 1 streams [P, H]: the layers' inputs and the last layer's output."""
    count, positions = len(streams), len(streams[0])
    change_LL = torch.zeros(count, count, dtype=torch.float64)
    angle_LL = torch.zeros_like(change_LL)
    for start in range(0, positions, CHUNK):
        stream_PLH = torch.stack([s[start : start + CHUNK].float() for s in streams], dim=1)
        unit_PLH = torch.nn.functional.normalize(stream_PLH, dim=-1)
        cosine_PLL = (unit_PLH @ unit_PLH.mT).clamp(-1, 1)
        change_LL += (1 - cosine_PLL).double().sum(0).cpu()
        angle_LL += (cosine_PLL.double().arccos() / torch.pi).sum(0).cpu()
    return Sums(positions, change_LL, angle_LL)


def block_influence(sums: Sequence[Sums], text: str) -> BlockInfluence:
    """Return the means over all groups. `text`: name of the data, kept with the result."""
    positions = sum(group.positions for group in sums)
    change_LL = torch.stack([group.change_LL for group in sums]).sum(0) / max(1, positions)
    angle_LL = torch.stack([group.angle_LL for group in sums]).sum(0) / max(1, positions)
    layers = len(change_LL) - 1
    return BlockInfluence(
        text=text,
        positions=positions,
        layers=_rounded(change_LL.diagonal(1)),
        runs=tuple(_rounded(angle_LL.diagonal(length)) for length in range(1, layers + 1)),
    )


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, DECIMALS) for value in values.tolist())
