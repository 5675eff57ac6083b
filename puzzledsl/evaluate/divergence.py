"""Divergence of a model from its parent on held-out text, in chunks: two full tensors of logits never exist at once.

Shape legend: N blocks, T tokens per block, H hidden size, V vocabulary, C positions of a chunk.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.ir.tables import Figure
from puzzledsl.models.divergence import kl_divergence
from puzzledsl.models.families.access import read_by_head
from puzzledsl.models.kernels import float32_products
from puzzledsl.models.kernels.products import fast_products
from puzzledsl.plan.memory.tiles import tiles

AGREEMENT = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class BlockFigures:
    """Means over the positions of one block, in nats: KL(parent || model) and the cross-entropy of the next token.

    `agreement` holds for each k of AGREEMENT the share of positions at which the parent's likeliest token is among
    the model's k likeliest; ties count as agreement. Where not all positions count, figures are sums over those that do,
    divided by their mean number in a block, and `weight` is the block's own number of them, divided by the same.
    """

    kl: float
    cross_entropy: float
    agreement: tuple[float, ...]
    weight: float = 1.0


@torch.inference_mode()
def final_states(
    model: PreTrainedModel, blocks_NT: Tensor, advance: Callable[[int], None] = lambda blocks: None
) -> list[Tensor]:
    """Return each block's hidden states as the head reads them, after the final norm, [T, H], on the CPU in the model's dtype."""
    base: Any = model.base_model
    found: list[Tensor] = []
    per_forward = max(1, tiles(model.device.type).forward_tokens // blocks_NT.shape[1])
    for rows_BT in torch.split(blocks_NT, per_forward):
        with fast_products(model.device):
            states_BTH = base(input_ids=rows_BT.to(model.device), use_cache=False).last_hidden_state
        found += list(read_by_head(model, states_BTH).cpu())
        advance(len(rows_BT))
    return found


class Counted(NamedTuple):
    """The positions of a block that count, int64 [M], and the mean number of them in a block of the text."""

    learned_M: Tensor
    mean: float


@torch.inference_mode()
def compare_block(
    ids_T: Tensor,
    parent_TH: Tensor,
    parent_VH: Tensor,
    model_TH: Tensor,
    model_VH: Tensor,
    counted: Counted | None = None,
) -> BlockFigures:
    """Compare parent and model on one block, from their final hidden states and output embeddings; sums in float64.

    `counted`: where not all positions count, figures are sums over those that do, divided by their mean number, so that the mean
    over the blocks of a text is the mean over its positions.
    """
    device, positions, following = model_VH.device, len(ids_T), ids_T[1:]
    means = float(positions), float(max(1, positions - 1))
    if counted is not None:
        at = counted.learned_M
        parent_TH, model_TH, following = parent_TH[at], model_TH[at], ids_T[at + 1]
        positions, means = len(at), (counted.mean, counted.mean)
    chunk = tiles(device.type).divergence_positions
    kl, cross_entropy = torch.zeros(2, dtype=torch.float64, device=device).unbind()
    agreeing = torch.zeros(len(AGREEMENT), dtype=torch.int64, device=device)
    k_K = torch.tensor(AGREEMENT, device=device)
    for start in range(0, positions, chunk):
        rows = slice(start, start + chunk)
        log_q_CV = _log_probs(model_TH[rows], model_VH)
        log_p_CV = _log_probs(parent_TH[rows], parent_VH).to(device)
        kl += kl_divergence(log_p_CV, log_q_CV).sum(dtype=torch.float64)
        ahead_C = (log_q_CV > log_q_CV.gather(1, log_p_CV.argmax(-1, keepdim=True))).sum(-1)
        agreeing += (ahead_C[:, None] < k_K).sum(0)
        next_C = following[rows].to(device)
        cross_entropy -= log_q_CV[: len(next_C)].gather(1, next_C[:, None]).double().sum()
    agreement = tuple(count / means[0] for count in agreeing.tolist())
    weight = 1.0 if counted is None else positions / counted.mean
    return BlockFigures(float(kl) / means[0], float(cross_entropy) / means[1], agreement, weight)


def _log_probs(states_CH: Tensor, embedding_VH: Tensor) -> Tensor:
    states_CH = states_CH.to(embedding_VH.device)
    if embedding_VH.device.type == "cuda":
        return F.log_softmax(float32_products.product(states_CH, embedding_VH.T), dim=-1)
    with fast_products(embedding_VH.device):
        logits_CV = F.linear(states_CH, embedding_VH)
    return F.log_softmax(logits_CV.float(), dim=-1)


def divergence_figures(blocks: Sequence[BlockFigures]) -> dict[str, Figure]:
    """Return `kl` (nats per token), `perplexity`, `top1_agreement`, `top5_…` and `top10_…`, with standard errors over blocks."""
    weights = [block.weight for block in blocks]
    kl, cross_entropy = (
        _mean([getattr(block, name) for block in blocks], weights) for name in ("kl", "cross_entropy")
    )
    perplexity = math.exp(cross_entropy[0])
    figures = {
        "kl": Figure(value=kl[0], stderr=kl[1], unit="nats"),
        "perplexity": Figure(
            value=perplexity, stderr=None if cross_entropy[1] is None else perplexity * cross_entropy[1]
        ),
    }
    for i, k in enumerate(AGREEMENT):
        value, error = _mean([block.agreement[i] for block in blocks], weights)
        figures[f"top{k}_agreement"] = Figure(value=value, stderr=error)
    return figures


def cross_entropies(blocks: Sequence[BlockFigures]) -> tuple[float, ...]:
    """Return each block's mean cross-entropy; of blocks of unlike weights values with the same mean and its standard error."""
    return _linearised([block.cross_entropy for block in blocks], [block.weight for block in blocks])


def _mean(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float | None]:
    values = _linearised(values, weights)
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.fmean(values), error


def _linearised(values: Sequence[float], weights: Sequence[float]) -> tuple[float, ...]:
    """Return values whose standard error is that of sum(values) / sum(weights), by the delta method; weights have the mean 1."""
    if all(weight == 1 for weight in weights):
        return tuple(values)
    mean = statistics.fmean(values)
    return tuple(value - mean * (weight - 1) for value, weight in zip(values, weights, strict=True))
