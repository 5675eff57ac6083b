"""Tensors of a causal language model that distillation needs: layer outputs, final hidden states, output embedding.

Shape legend: B sequences, T tokens of each, N = B * T positions, H hidden size, V vocabulary, L layers.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from puzzledsl.ir.nodes import Uptrain
from puzzledsl.models.divergence import summed_kl
from puzzledsl.models.families.access import layers, output_embedding, read_by_head
from puzzledsl.models.kernels.whole_rows import whole_rows
from puzzledsl.models.placement import faster_in_bfloat16
from puzzledsl.plan.memory.tiles import tiles
from puzzledsl.uptrain.loss import IGNORED, cosine_loss, logit_loss, logits_of


class Hidden(NamedTuple):
    """`final`: as the head reads them, [B, T, H]. `layers`: each layer's output, [B, T, H]; empty unless asked for."""

    final: Tensor
    layers: list[Tensor]


class Target(NamedTuple):
    """A parent's hidden states on some tokens, and its output embedding [V, H]."""

    hidden: Hidden
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
        hidden = hidden_states(self.model, ids_BT, every_layer=every_layer)
        return Target(hidden, output_embedding(self.model))


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
        child = hidden_states(self.model, ids_BT, every_layer=every_layer)
        child_NH, parent_NH = chosen(child.final, learned_M), chosen(target.hidden.final, learned_M)
        child_VH = output_embedding(self.model)
        if weights is None:
            heads = logits_of(target.embedding_VH), logits_of(child_VH)
            summed = summed_kl(parent_NH, child_NH, *heads, chunk=tiles(child_NH.device.type).loss_positions)
            return summed / max(1, len(child_NH))
        labels_N = chosen(next_tokens(ids_BT), learned_M)
        logits = logit_loss(
            child_NH, child_VH, parent_NH, target.embedding_VH, labels_N, kld=weights.kld, lm=weights.lm
        )
        cosine = logits.total.new_zeros(())
        if every_layer:
            cosine = cosine_loss(child.layers, target.hidden.layers, learned_M)
        return Losses(logits.total + weights.cosine * cosine, logits.kld, cosine.detach(), logits.lm)


def chosen(states_BT: Tensor, learned_M: Tensor | None) -> Tensor:
    """Return the positions that count of a tensor [B, T, ...], flat: [M, ...]; all of them, [B * T, ...], for None."""
    states_N = states_BT.flatten(0, 1)
    return states_N if learned_M is None else states_N.index_select(0, learned_M)


def hidden_states(model: PreTrainedModel, ids_BT: Tensor, *, every_layer: bool) -> Hidden:
    """Run one forward pass without logits. Gradients flow if they are enabled."""
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
    return Hidden(read_by_head(model, output.last_hidden_state), found)


def recompute_layers(model: PreTrainedModel) -> None:
    """Enable gradient checkpointing: keep only each layer's input, and recompute the rest for the backward pass.

    The layer's own `forward` is wrapped, inside any hooks that gather its weights or keep its output.
    """
    for layer in layers(model):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def next_tokens(ids_BT: Tensor) -> Tensor:
    """Return the label of each position [B, T]; the last position of each block has none."""
    labels_BT = torch.full_like(ids_BT, IGNORED)
    labels_BT[:, :-1] = ids_BT[:, 1:]
    return labels_BT


def in_bf16(device: torch.device, dtype: str | None) -> bool:
    """Return True if matrix products are bfloat16: as the program declares, else if that is faster on the device."""
    return faster_in_bfloat16(device) if dtype is None else dtype == "bf16"
