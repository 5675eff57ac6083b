"""Run a model one layer at a time, with transformers' own modules, masks and position embeddings.

The model's own forward is run once with recorders in place of its layers, to learn the arguments that it passes to them.
So a layer run here gets exactly the arguments it gets in the whole model.

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

from puzzledsl.models.families.access import attention, family_of, ffn, layers, norm_of
from puzzledsl.models.families.paged import is_paged
from puzzledsl.models.kernels.gated import fused_ffns
from puzzledsl.models.kernels.products import NOT_PACKED, PackedWeights, fast_products


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """Inputs and outputs of a layer's two sub-blocks, each [B, S, H]. The inputs are normed: the arguments of the modules."""

    attention_input: Tensor
    attention_output: Tensor
    ffn_input: Tensor
    ffn_output: Tensor
    output: Tensor
    attention_kwargs: dict[str, Any]  # the attention module's other arguments


class LayerRunner:
    """Runs the layers of `model` one at a time, without a KV cache and without padding. The model is not changed.

    Modules that `models.replace` put into the model are run in their place.
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
        """Device of the model, on which hidden states must lie."""
        return self._model.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the model's weights and of hidden states."""
        return self._model.dtype

    @property
    def paged(self) -> bool:
        """True if weights are read from disk as layers run (`models.families.paged`); only one thread may then run layers."""
        return is_paged(self._model)

    @property
    def hidden_size(self) -> int:
        """Width H of the residual stream."""
        return int(cast(Any, self._model.config).hidden_size)

    @torch.no_grad()
    def embed(self, tokens_BS: Tensor) -> Tensor:
        """Return the hidden states that enter layer 0, [B, S, H], for token ids [B, S]."""
        return self._record(input_ids=tokens_BS)

    def layer_kwargs(self, layer_idx: int, hidden_BSH: Tensor) -> dict[str, Any]:
        """Return the keyword arguments (mask, positions, …) that the model passes to a layer for states of this shape."""
        key = (hidden_BSH.shape[0], hidden_BSH.shape[1])
        if key not in self._kwargs:
            with torch.no_grad():
                self._record(inputs_embeds=hidden_BSH)
        return self._kwargs[key][layer_idx]

    @contextmanager
    def packed(self) -> Iterator[None]:
        """Inside the context, run the present layers faster, without gradients: packed weights and fused FFNs.

        Packing pays off over many runs; the weights must not change in place meanwhile. Weights of a `paged` model are not
        packed, which does not change the results.
        """
        linears = [module for module in layers(self._model).modules() if isinstance(module, nn.Linear)]
        self._packed = NOT_PACKED if self.paged else PackedWeights(module.weight for module in linears)
        try:
            with fused_ffns((ffn(layer) for layer in layers(self._model)), self._packed):
                yield
        finally:
            self._packed = NOT_PACKED

    def run_layer(self, layer_idx: int, hidden_BSH: Tensor) -> Tensor:
        """Run one whole layer, [B, S, H] -> [B, S, H], with the fast products of `models.kernels.products`."""
        layer, kwargs = layers(self._model)[layer_idx], self.layer_kwargs(layer_idx, hidden_BSH)
        with fast_products(self._packed):
            return cast(Tensor, layer(hidden_BSH, **kwargs))

    def run_halves(self, layer_idx: int, hidden_BSH: Tensor) -> tuple[Tensor, Tensor]:
        """Run one layer. Return the stream after attention (the FFN norm's input) and the layer's output, [B, S, H] each."""
        with _tapped(attention(layers(self._model)[layer_idx])) as tap:
            leaving = self.run_layer(layer_idx, hidden_BSH)
        return hidden_BSH + cast(Tensor, tap["output"]), leaving

    def run_ffn(self, layer_idx: int, attended_BSH: Tensor) -> Tensor:
        """Run the second half of a layer, from the FFN's norm on: [B, S, H] -> [B, S, H].

        Not for a `paged` model, whose weights are read only when the whole layer is called.
        """
        layer = layers(self._model)[layer_idx]
        with fast_products(self._packed):
            return attended_BSH + cast(Tensor, ffn(layer)(norm_of(layer, "ffn")(attended_BSH)))

    def run_suffix(self, start: int, hidden_BSH: Tensor) -> Tensor:
        """Run the layers from `start` to the last, [B, S, H] -> [B, S, H]."""
        for layer_idx in range(start, len(self)):
            hidden_BSH = self.run_layer(layer_idx, hidden_BSH)
        return hidden_BSH

    def trace_layer(self, layer_idx: int, hidden_BSH: Tensor) -> LayerTrace:
        """Run one whole layer and return the inputs and outputs of its two sub-blocks."""
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
        """Apply the norm between the last layer and the head, [..., H] -> [..., H]."""
        return cast(Tensor, self._norm(hidden_BSH))

    def head(self, normed_BSH: Tensor) -> Tensor:
        """Return the logits [..., V] of normed hidden states [..., H]."""
        return cast(Tensor, self._head(normed_BSH))

    def head_weights(self) -> tuple[Tensor, Tensor | None]:
        """Return the head's matrix [V, H] and its bias [V], or None where it has no bias."""
        weight_VH, bias_V = cast(Tensor, self._head.weight), cast(Tensor | None, self._head.bias)
        return weight_VH.detach(), None if bias_V is None else bias_V.detach()

    def _record(self, **inputs: Tensor) -> Tensor:
        """Run the model's forward with recorders as layers. Keep their arguments; return the hidden states that enter layer 0."""
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
    """Stand-in for a layer: returns its input unchanged and records its arguments."""

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
    """Inside the context, each call of `module` writes its `input`, `kwargs` (other arguments) and `output` to the dictionary."""
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
