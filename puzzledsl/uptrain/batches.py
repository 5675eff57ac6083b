"""Micro-batches of a step: the blocks that go through the models together, and the positions of them that losses count.

Shape legend: G blocks of a step, B of a micro-batch, T tokens a block, M positions that count.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from puzzledsl.uptrain.ranks import Ranks, shares


class MicroBatch(NamedTuple):
    """Token ids [B, T], their share of the step's losses, and the flat positions that count, int64 [M]; None: all of them."""

    ids_BT: Tensor
    share: float
    learned_M: Tensor | None = None


def micro_batches(ids_GT: Tensor, learned_GT: Tensor | None, micro: int, ranks: Ranks) -> list[MicroBatch]:
    """Return this process's micro-batches of a step, each with its share of the positions that count in the whole step.

    So the step's losses are means over all positions that count, however they are spread over blocks and processes. `learned_GT`:
    bool, or None where all count. Every process gets the same number of micro-batches (see `shares`).
    """
    cuts = shares(ids_GT, micro, ranks)
    if learned_GT is None:
        return [MicroBatch(ids_BT, share) for ids_BT, share in cuts]
    total = max(1, int(learned_GT.sum()))
    found = []
    for (ids_BT, share), (learned_BT, _) in zip(cuts, shares(learned_GT, micro, ranks), strict=True):
        learned_M = learned_BT.flatten().nonzero().flatten()
        found.append(MicroBatch(ids_BT, len(learned_M) / total if share else 0.0, learned_M))
    return found
