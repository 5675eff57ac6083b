"""Divergence of a model from its parent on held-out text, in chunks: two full tensors of logits never exist at once.

Shape legend: N blocks, T tokens per block, H hidden size, V vocabulary, C positions of a chunk.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.frozen import Record
from puzzledsl.ir.tables import Figure
from puzzledsl.ir.tables.evaluations import MEASURES
from puzzledsl.models.divergence import kl_divergence
from puzzledsl.models.families.access import read_by_head
from puzzledsl.models.kernels import products as float32_products
from puzzledsl.models.kernels.products import fast_products
from puzzledsl.models.machine import Workers
from puzzledsl.models.placement import is_paged
from puzzledsl.plan.memory.stage_plan import tiles
from puzzledsl.plan.memory.stages import AT_ONCE


class BlockFigures(Record):
    """Mean of each measure over the positions of one block; for `perplexity` the mean cross-entropy, in nats.

    If not all positions count, figures are sums over those that do, divided by the mean number of them in a block of the text,
    and `weight` is this block's number of them, divided by the same.
    """

    means: dict[str, float]
    weight: float = 1.0


class Chunk(Record, eq=False):
    """Log-probabilities of parent and model at some positions, and the tokens that follow them, where there are any."""

    parent_CV: Tensor
    model_CV: Tensor
    next_C: Tensor

    @cached_property
    def ahead_C(self) -> Tensor:
        """At each position, the number of tokens that the model holds likelier than the parent's likeliest one."""
        best_C1 = self.parent_CV.argmax(-1, keepdim=True)
        return (self.model_CV > self.model_CV.gather(1, best_C1)).sum(-1)

    def surprise_C(self) -> Tensor:
        """Return the cross-entropy of each next token."""
        return -self.model_CV[: len(self.next_C)].gather(1, self.next_C[:, None]).double()


MEASUREMENTS: Mapping[str, Callable[[Chunk], Tensor]] = {
    "kl": lambda chunk: kl_divergence(chunk.parent_CV, chunk.model_CV),
    "perplexity": Chunk.surprise_C,
    "top1_agreement": lambda chunk: chunk.ahead_C < 1,  # ties agree
    "top5_agreement": lambda chunk: chunk.ahead_C < 5,
    "top10_agreement": lambda chunk: chunk.ahead_C < 10,
}
"""Measure -> its value at each position."""


@torch.inference_mode()
def final_states(model: PreTrainedModel, blocks_NT: Tensor) -> list[Tensor]:
    """Return each block's hidden states as the head reads them, after the final norm, [T, H], on the CPU in the model's dtype."""
    base: Any = model.base_model
    found: list[Tensor] = []
    blocks, length = blocks_NT.shape

    def states(rows_BT: Tensor) -> Tensor:
        with fast_products(model.device):
            states_BTH = base(input_ids=rows_BT.to(model.device), use_cache=False).last_hidden_state
        return read_by_head(model, states_BTH).cpu()

    with Workers(model.device, shared=not is_paged(model), most=AT_ONCE) as workers:
        share = -(-blocks // workers.count)  # so that a short text is read by all workers
        per_forward = max(1, min(share, tiles(model.device.type).forward_tokens // length))
        for _, states_BTH in workers.each(states, torch.split(blocks_NT, per_forward)):
            found += list(states_BTH)
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
    parent_TV: Tensor | None = None,
) -> BlockFigures:
    """Compare parent and model on one block, from their final hidden states and output embeddings; sums in float64.

    `parent_TV`: the parent's log-probabilities, where they are known. `counted`: where not all positions count, figures are sums
    over those that do, divided by their mean number, so that the mean over the blocks of a text is the mean over its positions.
    """
    device, positions, following = model_VH.device, len(ids_T), ids_T[1:]
    means = float(positions), float(max(1, positions - 1))
    if counted is not None:
        at = counted.learned_M
        parent_TH, model_TH, following = parent_TH[at], model_TH[at], ids_T[at + 1]
        positions, means = len(at), (counted.mean, counted.mean)
        parent_TV = None if parent_TV is None else parent_TV[at]
    chunk = tiles(device.type).divergence_positions
    sums = {name: torch.zeros((), dtype=torch.float64, device=device) for name in MEASURES}
    for start in range(0, positions, chunk):
        rows = slice(start, start + chunk)
        model_CV = log_probs(model_TH[rows], model_VH)
        parent_CV = log_probs(parent_TH[rows], parent_VH) if parent_TV is None else parent_TV[rows]
        part = Chunk(parent_CV.to(device), model_CV, following[rows].to(device))
        for name, total in sums.items():
            total += MEASUREMENTS[name](part).sum(dtype=torch.float64)
    weight = 1.0 if counted is None else positions / counted.mean
    return BlockFigures({m.name: float(sums[m.name]) / means[m.of_next] for m in MEASURES.values()}, weight)


def log_probs(states_CH: Tensor, embedding_VH: Tensor) -> Tensor:
    """Return the log-probabilities of all tokens [C, V] at some positions, float32."""
    states_CH = states_CH.to(embedding_VH.device)
    if embedding_VH.device.type == "cuda":
        return F.log_softmax(float32_products.product(states_CH, embedding_VH.T), dim=-1)
    with fast_products(embedding_VH.device):
        logits_CV = F.linear(states_CH, embedding_VH)
    return F.log_softmax(logits_CV.float(), dim=-1)


def divergence_figures(blocks: Sequence[BlockFigures]) -> dict[str, Figure]:
    """Return each measure of a text, with its standard error over blocks (None for a single block)."""
    weights = [block.weight for block in blocks]
    figures = {}
    for measure in MEASURES.values():
        values = _linearised([block.means[measure.name] for block in blocks], weights)
        value = statistics.fmean(values)
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        if measure.exponential:
            value = math.exp(value)
            error = None if error is None else value * error
        figures[measure.name] = Figure(value=value, stderr=error, unit=measure.unit)
    return figures


def cross_entropies(blocks: Sequence[BlockFigures]) -> tuple[float, ...]:
    """Return each block's mean cross-entropy in nats; blocks of unlike weights are adjusted as `_linearised` says."""
    return _linearised([block.means["perplexity"] for block in blocks], [block.weight for block in blocks])


def _linearised(values: Sequence[float], weights: Sequence[float]) -> tuple[float, ...]:
    """Return values with the mean and standard error of sum(values) / sum(weights) (delta method). Weights have the mean 1."""
    if all(weight == 1 for weight in weights):
        return tuple(values)
    mean = statistics.fmean(values)
    return tuple(value - mean * (weight - 1) for value, weight in zip(values, weights, strict=True))
