"""What distillation needs of a causal language model: its layers' outputs, its final hidden states, its output embedding.

Shape legend: B sequences, T tokens of each, H hidden size, V vocabulary, L layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.parents.access import layers


class Hidden(NamedTuple):
    """`final`: after the final norm, [B, T, H]. `layers`: each layer's output, [B, T, H]; empty unless asked for."""

    final: Tensor
    layers: list[Tensor]


def hidden_states(model: PreTrainedModel, ids_BT: Tensor, *, every_layer: bool) -> Hidden:
    """One forward without logits. Gradients flow if they are enabled."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(keep) for layer in layers(model)] if every_layer else []
    try:
        base: Any = model.base_model
        output = base(input_ids=ids_BT, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return Hidden(output.last_hidden_state, found)


def output_embedding(model: PreTrainedModel) -> Tensor:
    """The head's weight [V, H]; none of the supported families has a bias there."""
    embeddings: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return cast(Tensor, embeddings.weight)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 matrix products on a GPU, nothing on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
