"""Tensors of a causal language model that distillation needs, and its losses, which make logits of one chunk at a time.

Of quantised matrices, which lie on grids, the scales may be trained; the codes stay. Logits and losses are float32.

Shape legend: B sequences, T tokens of each, N = B * T positions, M that count, C of a chunk, H hidden, V vocabulary, L layers.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.alternatives.parent import END_DTYPES
from puzzledsl.alternatives.precision import PRECISIONS, Precision, is_quantised
from puzzledsl.ir.nodes import Uptrain
from puzzledsl.models.divergence import summed_kl
from puzzledsl.models.families.access import blocks_of, layers, output_embedding, read_by_head, sub_block_of
from puzzledsl.models.families.slots import slots
from puzzledsl.models.kernels import products as float32_products
from puzzledsl.models.kernels.products import whole_rows
from puzzledsl.models.placement import faster_in_bfloat16
from puzzledsl.models.precision.scales import train_scales
from puzzledsl.plan.memory.stage_plan import tiles


def prepare_training(child: PreTrainedModel, *, scales: bool) -> None:
    """Let gradients flow to every weight of a child but quantised ones; with `scales` to the scales of those, too.

    The scales of experts' matrices and of the embedding, which may be the head, too, stay as they are.
    """
    child.requires_grad_(True)
    for holder, name, precision in quantised(child):
        getattr(holder, name).requires_grad_(False)
        if scales and isinstance(holder, nn.Linear):
            train_scales(holder, precision)


def quantised(child: PreTrainedModel) -> Iterator[tuple[nn.Module, str, Precision]]:
    """Yield the parameters of a child's quantised matrices: the module, the name there, and the storage type."""
    for layer, alternatives in zip(layers(child), blocks_of(child.config) or (), strict=False):
        for sub_block, alternative in zip(SUB_BLOCKS, alternatives, strict=True):
            if alternative.dtype is not None:
                for name, slot in slots(sub_block_of(layer, sub_block)).items():
                    if is_quantised(name, tuple(slot.weight.shape)):
                        yield slot.holder, slot.name, PRECISIONS[alternative.dtype]
    ends: Any = child
    places = {"head": ends.get_output_embeddings(), "embedding": ends.get_input_embeddings()}
    types = dict(getattr(child.config, END_DTYPES, {}))
    if child.config.tie_word_embeddings:  # one matrix
        types.pop("head", None)
    for site, dtype in types.items():
        yield places[site], "weight", PRECISIONS[dtype]


IGNORED = -100  # a label without a next token


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
) -> tuple[Tensor, Tensor, Tensor]:
    """Return kld * mean KL(parent || child) + lm * mean cross-entropy, and both means, from final states and embeddings.

    `labels_N`: the next token of each position, or IGNORED. Memory is a few [chunk, V] tensors. Only the first scalar
    has a gradient, with respect to `child_NH` and `child_VH`.
    """
    apply: Any = _ChunkedLogitLoss.apply
    chunk = chunk or tiles(child_NH.device.type).loss_positions
    found: tuple[Tensor, Tensor, Tensor] = apply(
        child_NH, child_VH, parent_NH, parent_VH, labels_N, kld, lm, chunk
    )
    return found


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


class Target(NamedTuple):
    """A parent's `hidden_states` on some tokens, and its output embedding [V, H]."""

    final: Tensor
    layers: list[Tensor]
    embedding_VH: Tensor


class Losses(NamedTuple):
    """Float32 scalars: the weighted sum (differentiable) and its parts before weighting."""

    total: Tensor
    kld: Tensor
    cosine: Tensor
    lm: Tensor


class Teacher(nn.Module):
    """The parent. Its weights are read only inside `forward`, so that sharded ones can be gathered there."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    @torch.no_grad()
    def forward(self, ids_BT: Tensor, every_layer: bool) -> Target:
        """Return the parent's hidden states and embedding, without gradients."""
        return Target(
            *hidden_states(self.model, ids_BT, every_layer=every_layer), output_embedding(self.model)
        )


class Student(nn.Module):
    """The child. As for the teacher, its weights are read only inside `forward`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids_BT: Tensor, target: Target, weights: Uptrain | None, learned_M: Tensor | None = None
    ) -> Losses | float:
        """Return the losses with these weights; for None, the mean KL(parent || child) in nats on these tokens.

        `learned_M`: the flat positions that count, int64; all of them unless given. Losses are means over these; of none, 0.
        """
        every_layer = weights is not None and weights.cosine != 0
        final_BTH, every_BTH = hidden_states(self.model, ids_BT, every_layer=every_layer)
        child_NH, parent_NH = chosen(final_BTH, learned_M), chosen(target.final, learned_M)
        child_VH = output_embedding(self.model)
        if weights is None:
            heads = logits_of(target.embedding_VH), logits_of(child_VH)
            summed = summed_kl(parent_NH, child_NH, *heads, chunk=tiles(child_NH.device.type).loss_positions)
            return summed / max(1, len(child_NH))
        labels_N = chosen(F.pad(ids_BT[:, 1:], (0, 1), value=IGNORED), learned_M)
        given = child_NH, child_VH, parent_NH, target.embedding_VH, labels_N
        total, kld, lm = logit_loss(*given, kld=weights.kld, lm=weights.lm)
        cosine = cosine_loss(every_BTH, target.layers, learned_M) if every_layer else total.new_zeros(())
        return Losses(total + weights.cosine * cosine, kld, cosine.detach(), lm)


def chosen(states_BT: Tensor, learned_M: Tensor | None) -> Tensor:
    """Return the positions that count of a tensor [B, T, ...], flat: [M, ...]; all of them, [B * T, ...], for None."""
    states_N = states_BT.flatten(0, 1)
    return states_N if learned_M is None else states_N.index_select(0, learned_M)


def hidden_states(
    model: PreTrainedModel, ids_BT: Tensor, *, every_layer: bool
) -> tuple[Tensor, list[Tensor]]:
    """Run one forward pass without logits. Gradients flow if they are enabled.

    Return the states as the head reads them, [B, T, H], and each layer's output, [B, T, H], if asked for.
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(keep) for layer in layers(model)] if every_layer else []
    try:
        base: Any = model.base_model
        output = base(input_ids=ids_BT, use_cache=False, **whole_rows(model))
    finally:
        for handle in handles:
            handle.remove()
    return read_by_head(model, output.last_hidden_state), found


def recompute_layers(model: PreTrainedModel) -> None:
    """Enable gradient checkpointing: keep only each layer's input, and recompute the rest for the backward pass.

    The layer's own `forward` is wrapped, inside any hooks that gather its weights or keep its output.
    """
    for layer in layers(model):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def in_bf16(device: torch.device, dtype: str | None) -> bool:
    """Return True if matrix products are bfloat16: as the program declares, else if that is faster on the device."""
    return faster_in_bfloat16(device) if dtype is None else dtype == "bf16"
