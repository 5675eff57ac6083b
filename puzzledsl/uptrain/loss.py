"""Losses of global knowledge distillation, in chunks: two full tensors of logits never exist at once.

Shape legend: N token positions, C positions of a chunk, V vocabulary, H hidden size. Logits and losses are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from puzzledsl.models.kernels import float32_products
from puzzledsl.plan.memory.tiles import tiles

IGNORED = -100  # a label without a next token


class LogitLoss(NamedTuple):
    """Scalars: the weighted sum (differentiable) and its two parts before weighting."""

    total: Tensor
    kld: Tensor
    lm: Tensor


class _ChunkedLogitLoss(torch.autograd.Function):
    """kld * KL(parent || child) + lm * CE, with the gradient computed chunk by chunk in the forward pass.

    d KL / d z = softmax(z) - softmax(z_parent) and d CE / d z = softmax(z) - onehot(label), z the child's logits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        child_NH: Tensor,
        child_VH: Tensor,
        parent_NH: Tensor,
        parent_VH: Tensor,
        labels_N: Tensor,
        kld: float,
        lm: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = product_dtype(child_NH)
        with torch.autocast(child_NH.device.type, enabled=False):
            child = child_NH.to(dtype), child_VH.to(dtype)
            parent = parent_NH.to(dtype), parent_VH.to(dtype)
            sums, grads = _losses_and_gradients(child, parent, labels_N, kld, lm, chunk)
        ctx.save_for_backward(grads[0].to(child_NH.dtype), grads[1].to(child_VH.dtype))
        kld_mean, lm_mean = sums
        ctx.mark_non_differentiable(kld_mean, lm_mean)
        return kld * kld_mean + lm * lm_mean, kld_mean, lm_mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # in place, to hold them once: a second backward through the same loss is an error of autograd's
        grad_NH, grad_VH = (grad.mul_(grads[0]) for grad in ctx.saved_tensors)
        return grad_NH, grad_VH, None, None, None, None, None, None


def product_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of the factors of the head's products: on a GPU autocast's where it is enabled, else the tensor's.

    A CPU has no product of 16-bit factors with a float32 result, which the logits need.
    """
    on_gpu = tensor.device.type == "cuda" and torch.is_autocast_enabled("cuda")
    return torch.get_autocast_dtype("cuda") if on_gpu else tensor.dtype


def product(one: Tensor, other: Tensor) -> Tensor:
    """Return `one @ other`; of 16-bit factors on a GPU in float32, which is what it sums in."""
    return float32_products.product(one, other) if one.device.type == "cuda" else one @ other


def logits_of(embedding_VH: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map from final hidden states [C, H] to logits [C, V], with the products of the loss on a GPU."""
    if embedding_VH.device.type != "cuda":
        return lambda states_CH: states_CH @ embedding_VH.T

    def logits(states_CH: Tensor) -> Tensor:
        dtype = product_dtype(states_CH)
        with torch.autocast("cuda", enabled=False):
            return product(states_CH.to(dtype), embedding_VH.T.to(dtype))

    return logits


def _losses_and_gradients(
    child: tuple[Tensor, Tensor],
    parent: tuple[Tensor, Tensor],
    labels_N: Tensor,
    kld: float,
    lm: float,
    chunk: int,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return mean KL, mean cross-entropy, and the gradients of their weighted sum with respect to the child's tensors.

    `child` and `parent`: final hidden states [N, H] and output embedding [V, H], all of one dtype; the gradient with
    respect to the embedding is float32.
    """
    (child_NH, child_VH), (parent_NH, parent_VH) = child, parent
    count, positions = len(child_NH), max(1, len(child_NH))
    labelled = (labels_N != IGNORED).sum().clamp_min(1)
    grad_NH = torch.empty_like(child_NH)
    grad_VH = torch.zeros_like(child_VH, dtype=torch.float32)
    kld_sum, lm_sum = torch.zeros(2, device=child_NH.device).unbind()
    for start in range(0, count, chunk):
        rows = slice(start, start + chunk)
        log_q_CV = F.log_softmax(product(child_NH[rows], child_VH.T).float(), dim=-1)
        log_p_CV = F.log_softmax(product(parent_NH[rows], parent_VH.T).float(), dim=-1)
        p_CV = log_p_CV.exp()
        kld_sum += log_p_CV.sub_(log_q_CV).mul_(p_CV).sum()
        del log_p_CV
        has_C = labels_N[rows] != IGNORED
        index_C1 = labels_N[rows].clamp_min(0)[:, None]
        lm_sum -= (log_q_CV.gather(1, index_C1)[:, 0] * has_C).sum()
        # kld/N * (q - p) + lm/M * (q - onehot) on labelled rows
        lm_C1 = has_C[:, None].float() * (lm / labelled)
        grad_CV = log_q_CV.exp_().mul_(lm_C1 + kld / positions).sub_(p_CV.mul_(kld / positions))
        del p_CV
        grad_CV = grad_CV.scatter_add_(1, index_C1, -lm_C1).to(child_VH.dtype)
        torch.mm(grad_CV, child_VH, out=grad_NH[rows])
        if grad_CV.dtype == torch.float32:
            grad_VH.addmm_(grad_CV.T, child_NH[rows])
        else:
            grad_VH += product(grad_CV.T, child_NH[rows])
    return (kld_sum / positions, lm_sum / labelled), (grad_NH, grad_VH)


def logit_loss(
    child_NH: Tensor,
    child_VH: Tensor,
    parent_NH: Tensor,
    parent_VH: Tensor,
    labels_N: Tensor,
    *,
    kld: float,
    lm: float,
    chunk: int | None = None,
) -> LogitLoss:
    """Return kld * mean KL(parent || child) + lm * mean cross-entropy, from final hidden states and output embeddings.

    `labels_N`: the next token of each position, or IGNORED. Memory is a few [chunk, V] tensors. Only the first scalar
    has a gradient, with respect to `child_NH` and `child_VH`.
    """
    apply: Any = _ChunkedLogitLoss.apply
    chunk = chunk or tiles(child_NH.device.type).loss_positions
    return LogitLoss(*apply(child_NH, child_VH, parent_NH, parent_VH, labels_N, kld, lm, chunk))


def cosine_loss(
    child_L: Sequence[Tensor], parent_L: Sequence[Tensor], learned_M: Tensor | None = None
) -> Tensor:
    """Return the mean over layers and positions of 1 - cos(child, parent), a float32 scalar (Puzzle, section 3).

    Each layer's states are [..., H]. `learned_M`: flat positions that count; all unless given. Of none the loss is 0. The float32
    copies of 16-bit streams are made again in the backward pass: kept, they would take more than the streams.
    """
    per_layer = [
        _distance(child, parent, learned_M)
        if child.dtype == torch.float32
        else checkpoint(_distance, child, parent, learned_M, use_reentrant=False)
        for child, parent in zip(child_L, parent_L, strict=True)
    ]
    return torch.stack(per_layer).mean()


def _distance(child: Tensor, parent: Tensor, learned_M: Tensor | None) -> Tensor:
    if learned_M is not None:
        child = child.flatten(0, -2).index_select(0, learned_M)
        parent = parent.flatten(0, -2).index_select(0, learned_M)
        if not len(learned_M):
            return child.float().sum()  # 0, with a gradient of 0 for processes that wait for one
    return 1 - F.cosine_similarity(child.float(), parent.float(), dim=-1).mean()
