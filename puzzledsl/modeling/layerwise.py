"""Run a model one layer at a time, with transformers' own modules, masks and position embeddings.

The model's own forward is asked what it would pass to its layers (they are swapped for recorders while it is asked),
so a layer run here gets exactly what it gets in the whole model.

Shapes: B sequences, S tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.modeling.gated import fused_ffns
from puzzledsl.modeling.products import NOT_PACKED, PackedWeights, fast_products
from puzzledsl.parents.access import attention, family_of, ffn, layers, norm_of
from puzzledsl.parents.paged import is_paged


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What passed through one layer. Inputs are normed: what the sub-block's module itself was given. All [B, S, H]."""

    attention_input: Tensor
    attention_output: Tensor
    ffn_input: Tensor
    ffn_output: Tensor
    output: Tensor
    attention_kwargs: dict[str, Any]  # everything else the attention module was given


class LayerRunner:
    """The layers of `model`, one by one. Always without a KV cache and without padding; the model is not changed.

    Modules put into the model (`modeling.replace`) are run where they stand.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        family = family_of(model)
        holder, _, self._name = family.layers.rpartition(".")
        self._base = cast(nn.Module, attrgetter(holder)(model))
        self._model = model
        self._norm = cast(nn.Module, attrgetter(family.final_norm)(model))
        self._head = cast(nn.Module, attrgetter(family.head)(model))
        self._kwargs: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self._packed = NOT_PACKED

    def __len__(self) -> int:
        return len(layers(self._model))

    @property
    def device(self) -> torch.device:
        """Where hidden states must be."""
        return self._model.device

    @property
    def dtype(self) -> torch.dtype:
        """What hidden states are made of."""
        return self._model.dtype

    @property
    def paged(self) -> bool:
        """Whether the layers' weights come and go (`parents.paged`): then only one thread may run them."""
        return is_paged(self._model)

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(cast(Any, self._model.config).hidden_size)

    @torch.no_grad()
    def embed(self, tokens_BS: Tensor) -> Tensor:
        """Token ids -> hidden states that enter layer 0, [B, S, H]."""
        return self._ask(input_ids=tokens_BS)

    def layer_kwargs(self, layer_idx: int, hidden_BSH: Tensor) -> dict[str, Any]:
        """What the model passes to layer `layer_idx` beside hidden states of this shape: mask, positions …"""
        key = (hidden_BSH.shape[0], hidden_BSH.shape[1])
        if key not in self._kwargs:
            with torch.no_grad():
                self._ask(inputs_embeds=hidden_BSH)
        return self._kwargs[key][layer_idx]

    @contextmanager
    def packed(self) -> Iterator[None]:
        """While this lasts, the layers that stand now run as fast as they can without gradients: weights packed, FFNs fused.

        For many runs; their weights must not change in place. Weights that come and go (`paged`) are not packed: the same bytes.
        """
        linears = [module for module in layers(self._model).modules() if isinstance(module, nn.Linear)]
        self._packed = NOT_PACKED if self.paged else PackedWeights(module.weight for module in linears)
        try:
            with fused_ffns((ffn(layer) for layer in layers(self._model)), self._packed):
                yield
        finally:
            self._packed = NOT_PACKED

    def run_layer(self, layer_idx: int, hidden_BSH: Tensor) -> Tensor:
        """One whole layer, [B, S, H] -> [B, S, H]. Its products are fast ones (`modeling.products`)."""
        layer, kwargs = layers(self._model)[layer_idx], self.layer_kwargs(layer_idx, hidden_BSH)
        with fast_products(self._packed):
            return cast(Tensor, layer(hidden_BSH, **kwargs))

    def run_halves(self, layer_idx: int, hidden_BSH: Tensor) -> tuple[Tensor, Tensor]:
        """What the layer's FFN reads, before its norm, and what leaves the layer."""
        with _tapped(attention(layers(self._model)[layer_idx])) as tap:
            leaving = self.run_layer(layer_idx, hidden_BSH)
        return hidden_BSH + cast(Tensor, tap["output"]), leaving

    def run_ffn(self, layer_idx: int, attended_BSH: Tensor) -> Tensor:
        """The layer from its FFN's norm on. Not of a `paged` model: nothing reads the weights."""
        layer = layers(self._model)[layer_idx]
        with fast_products(self._packed):
            return attended_BSH + cast(Tensor, ffn(layer)(norm_of(layer, "ffn")(attended_BSH)))

    def run_suffix(self, start: int, hidden_BSH: Tensor) -> Tensor:
        """Layers `start` to the last."""
        for layer_idx in range(start, len(self)):
            hidden_BSH = self.run_layer(layer_idx, hidden_BSH)
        return hidden_BSH

    def trace_layer(self, layer_idx: int, hidden_BSH: Tensor) -> LayerTrace:
        """One whole layer, and what went in and out of its two sub-blocks."""
        layer = layers(self._model)[layer_idx]
        with _tapped(attention(layer)) as a, _tapped(ffn(layer)) as f:
            output = self.run_layer(layer_idx, hidden_BSH)
        return LayerTrace(
            attention_input=a["input"],
            attention_output=a["output"],
            ffn_input=f["input"],
            ffn_output=f["output"],
            output=output,
            attention_kwargs=a["kwargs"],
        )

    def final_norm(self, hidden_BSH: Tensor) -> Tensor:
        """The norm between the last layer and the head."""
        return cast(Tensor, self._norm(hidden_BSH))

    def head(self, normed_BSH: Tensor) -> Tensor:
        """Normed hidden states -> logits [..., V]."""
        return cast(Tensor, self._head(normed_BSH))

    def head_weights(self) -> tuple[Tensor, Tensor | None]:
        """The head's matrix [V, H] and its bias [V], if it has one."""
        weight_VH, bias_V = cast(Tensor, self._head.weight), cast(Tensor | None, self._head.bias)
        return weight_VH.detach(), None if bias_V is None else bias_V.detach()

    def _ask(self, **inputs: Tensor) -> Tensor:
        """Run the model's forward over recorders; returns the hidden states it hands to its first layer."""
        real = getattr(self._base, self._name)
        recorders = nn.ModuleList([_Recorder(layer) for layer in real])
        setattr(self._base, self._name, recorders)
        try:
            self._base(**inputs, use_cache=False)
        finally:
            setattr(self._base, self._name, real)
        first = cast(_Recorder, recorders[0])
        hidden = first.hidden
        assert hidden is not None
        self._kwargs[hidden.shape[0], hidden.shape[1]] = [cast(_Recorder, r).kwargs for r in recorders]
        return hidden


class _Recorder(nn.Module):
    """Stands where a layer stood, passes its input on, and remembers its arguments."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.kwargs: dict[str, Any] = {}
        self.hidden: Tensor | None = None
        self.__dict__["layer"] = layer  # not a submodule

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["layer"], name)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """Record and return the input."""
        self.hidden, self.kwargs = hidden_states, kwargs
        return hidden_states


@contextmanager
def _tapped(module: nn.Module) -> Iterator[dict[str, Any]]:
    """While this lasts, each call of `module` leaves its input, its other arguments and its output in the dictionary."""
    seen: dict[str, Any] = {}

    def tap(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        rest = dict(kwargs)
        seen["input"] = args[0] if args else rest.pop("hidden_states")
        seen["kwargs"] = rest
        seen["output"] = output[0] if isinstance(output, tuple) else output

    handle = module.register_forward_hook(tap, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()
