"""Block influence of each layer of the parent, and angular distance of each run: means over scored positions and those behind.

Block influence (Men et al., ShortGPT, arXiv 2403.03853) and angular distance (Gromov et al., arXiv 2403.17887, who take the last
token of each text alone; here every token counts). Both come from the parent's own pass, which a sweep makes in any case. Few
scored positions are not enough: of SmolLM2 the order of block influences settles between 1,024 and 2,048, that of runs at 256.

Shapes: B sequences, S positions of a group; P positions that count; L layers; H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from puzzledsl.ir.influence import BlockInfluence
from puzzledsl.modeling.layerwise import LayerRunner

POSITIONS = 2048
"""So many positions count, if the text has them: means over them, and streams of all layers that fit in memory."""
CHUNK = 64
"""Positions whose streams are compared at a time, in float32."""
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over a group's positions of two streams' `1 - cosine` and of their angle / pi, both float64 [L + 1, L + 1]."""

    positions: int
    change_LL: Tensor
    angle_LL: Tensor


def counted(is_text: Sequence[Tensor]) -> list[Tensor]:
    """Flat indices of the positions that count, by group: the first that are text and no padding."""
    left, found = POSITIONS, []
    for mask_BS in is_text:
        index_P = mask_BS.flatten().nonzero()[:left, 0]
        left -= len(index_P)
        found.append(index_P)
    return found


def observed_pass(runner: LayerRunner, hidden_BSH: Tensor, counted_P: Tensor) -> tuple[Tensor, Sums]:
    """All layers of the model on one group: what leaves the last one, [B, S, H], and the sums over its positions that count."""
    index_P = counted_P.to(hidden_BSH.device)
    streams = [hidden_BSH.flatten(0, 1)[index_P]]
    for layer_idx in range(len(runner)):
        hidden_BSH = runner.run_layer(layer_idx, hidden_BSH)
        streams.append(hidden_BSH.flatten(0, 1)[index_P])
    return hidden_BSH, _sums(streams)


def _sums(streams: Sequence[Tensor]) -> Sums:
    """Compare every two of the streams [P, H] that enter the layers and leave the last one."""
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
    """The means over all groups, in the order of these."""
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
