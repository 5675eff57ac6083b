"""Pairwise terms of a score: second-order expansion of the KL divergence in the changes of the logits.

To second order in the change d of the logits, KL(parent || child) = Var_p(d) / 2. If replacements at different places change the
logits by d_r and these changes add up, the KL of a child is

    sum_r Var_p(d_r) / 2  +  sum_{r < s} Cov_p(d_r, d_s)

Replace-1-block scores measure the first sum. `covariances` computes the terms of the second, in nats.

Shapes: R replacements, P positions, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BUFFER_BYTES = 2**28
"""Bytes of logits of all replacements that are in memory at once."""


def covariances(
    head: Callable[[Tensor], Tensor],
    parent_PH: Tensor,
    children_RPH: Tensor,
    *,
    buffer_bytes: int = BUFFER_BYTES,
) -> Tensor:
    """Return Cov_p(d_r, d_s), the mean over positions, [R, R] float64 in nats.

    Half the diagonal is each replacement's own KL to second order. `head` maps final hidden states after the last norm to
    float32 logits; `parent_PH` are the parent's states and `children_RPH` those of each child with one replacement.
    Takes 2 R P V (H + R) multiplications and `buffer_bytes` of memory.
    """
    total = torch.zeros(len(children_RPH), len(children_RPH), dtype=torch.float64, device=parent_PH.device)
    vocabulary = head(parent_PH[:1]).shape[-1]
    for where in chunks(children_RPH.shape, vocabulary, buffer_bytes):
        total += covariance_sum(head, parent_PH[where], children_RPH[:, where])
    return total / children_RPH.shape[1]


def chunks(shape: Sequence[int], vocabulary: int, buffer_bytes: int = BUFFER_BYTES) -> list[slice]:
    """Split the positions of states [R, P, H] so that the logits of all replacements at a chunk take `buffer_bytes`."""
    replacements, positions, _ = shape
    size = max(1, buffer_bytes // (replacements * vocabulary * 4))
    return [slice(start, min(start + size, positions)) for start in range(0, positions, size)]


def covariance_sum(head: Callable[[Tensor], Tensor], parent_PH: Tensor, children_RPH: Tensor) -> Tensor:
    """Return the sum over positions of Cov_p(d_r, d_s), [R, R] float64 in nats."""
    parent = head(parent_PH)
    change = head(children_RPH.to(parent_PH))
    change -= parent
    p = parent.softmax(-1)
    change -= torch.einsum("rpv,pv->rp", change, p)[..., None]
    change *= p.sqrt()
    flat = change.flatten(1)
    return (flat @ flat.T).double()


def predicted(singles: Sequence[float], covariance_RR: Tensor) -> float:
    """Return the second-order KL, in nats, of a child with all R replacements: their own KLs plus the pairs' covariances."""
    pairs = covariance_RR.triu(1).sum() if len(singles) > 1 else torch.zeros(())
    return sum(singles) + float(pairs)
