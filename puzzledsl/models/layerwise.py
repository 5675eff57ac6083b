"""Run a model one layer at a time, with transformers' own modules, masks and position embeddings.

The model's own forward is run once with recorders in place of its layers, to learn the arguments that it passes to them.
So a layer run here gets exactly the arguments it gets in the whole model.

Shapes: B sequences, S tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.models.families.access import (
    entrance,
    family_of,
    ffn,
    layers,
    norm_behind,
    part_of,
    read_by_head,
    sub_block_of,
)
from puzzledsl.models.kernels import products as float32_products
from puzzledsl.models.kernels.attention import fused_ffns
from puzzledsl.models.kernels.products import NOT_PACKED, PackedWeights, fast_products, repeatable
from puzzledsl.models.layer_trace import LayerTrace
from puzzledsl.models.placement import is_paged
from puzzledsl.models.replace import without


class LayerRunner:
    """Runs layers of `model`, or modules put in their place, one at a time, without KV cache and padding; changes nothing."""

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
        """True if weights are read from disk as layers run (`models.placement`); only one thread may then run layers."""
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
            ffns = [ffn(layer) for layer in layers(self._model) if part_of(layer, "ffn") is not None]
            with fused_ffns(ffns, self._packed):
                yield
        finally:
            self._packed = NOT_PACKED

    def layer(self, layer_idx: int) -> nn.Module:
        """Return a layer's module."""
        return layers(self._model)[layer_idx]

    def run_layer(self, layer_idx: int, hidden_BSH: Tensor) -> Tensor:
        """Run one whole layer, [B, S, H] -> [B, S, H], with the fast products of `models.kernels.products`."""
        layer, kwargs = layers(self._model)[layer_idx], self.layer_kwargs(layer_idx, hidden_BSH)
        with self._kernels(hidden_BSH.device):
            return cast(Tensor, layer(hidden_BSH, **kwargs))

    def run_halves(self, layer_idx: int, hidden_BSH: Tensor) -> tuple[Tensor, Tensor]:
        """Run one layer. Return the stream after attention and the layer's output, [B, S, H] each."""
        with _between(layers(self._model)[layer_idx]) as seen:
            leaving = self.run_layer(layer_idx, hidden_BSH)
        return seen.get("between", leaving), leaving

    def run_ffn(self, layer_idx: int, attended_BSH: Tensor) -> Tensor:
        """Run a layer without its attention, on the stream after it: [B, S, H] -> [B, S, H]. Not for a `paged` model."""
        half = without(layers(self._model)[layer_idx], "attention")
        with self._kernels(attended_BSH.device):
            return cast(Tensor, half(attended_BSH, **self.layer_kwargs(layer_idx, attended_BSH)))

    def run_suffix(self, start: int, hidden_BSH: Tensor) -> Tensor:
        """Run the layers from `start` to the last, [B, S, H] -> [B, S, H]."""
        for layer_idx in range(start, len(self)):
            hidden_BSH = self.run_layer(layer_idx, hidden_BSH)
        return hidden_BSH

    def trace_layer(self, layer_idx: int, hidden_BSH: Tensor) -> LayerTrace:
        """Run one whole layer and return the inputs and outputs of its two sub-blocks."""
        with traced(layers(self._model)[layer_idx]) as seen:
            output = self.run_layer(layer_idx, hidden_BSH)
        return seen.trace(hidden_BSH, output, self.layer_kwargs(layer_idx, hidden_BSH))

    def final_norm(self, hidden_BSH: Tensor) -> Tensor:
        """Return what the head reads (`read_by_head`), from the last layer's output: [..., H] -> [..., H]."""
        return read_by_head(self._model, cast(Tensor, self._norm(hidden_BSH)))

    def head(self, normed_BSH: Tensor) -> Tensor:
        """Return the logits [..., V] of normed hidden states [..., H]."""
        return cast(Tensor, self._head(normed_BSH))

    def logits(self, normed_PH: Tensor) -> Tensor:
        """Return float32 logits [..., V] of normed hidden states, also where the model is in 16 bits."""
        if normed_PH.device.type == "cpu":
            return self.head(normed_PH).float()
        weight_VH, bias_V = self.head_weights()
        logits = float32_products.product(normed_PH.flatten(0, -2), weight_VH.T)
        logits = logits if bias_V is None else logits.add_(bias_V)
        return logits.view(*normed_PH.shape[:-1], len(weight_VH))

    def head_weights(self) -> tuple[Tensor, Tensor | None]:
        """Return the head's matrix [V, H] and its bias [V], or None where it has no bias."""
        weight_VH, bias_V = cast(Tensor, self._head.weight), cast(Tensor | None, self._head.bias)
        return weight_VH.detach(), None if bias_V is None else bias_V.detach()

    def _kernels(self, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which products are fast on a CPU, or sums repeatable on a GPU."""
        return fast_products(device, self._packed) if device.type == "cpu" else repeatable(device)

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


@dataclass(frozen=True, slots=True)
class Seen:
    """Notes of hooks on one run of a layer: calls of its parts, and the stream between them."""

    attention: Mapping[str, Any]
    ffn: Mapping[str, Any]
    between: Mapping[str, Tensor]

    def trace(self, entering: Tensor, leaving: Tensor, layer_kwargs: dict[str, Any]) -> LayerTrace:
        """Return the trace of the run."""
        between = self.between.get("between", leaving)
        a, f = self.attention or _nothing(entering), self.ffn or _nothing(between)
        return LayerTrace(
            attention_input=a["input"],
            attention_output=a["output"],
            attention_added=a["added"],
            between=between,
            ffn_input=f["input"],
            ffn_output=f["output"],
            ffn_added=f["added"],
            output=leaving,
            attention_kwargs=a["kwargs"],
            layer_kwargs=layer_kwargs,
        )


def _nothing(stream: Tensor) -> dict[str, Any]:
    zeros = stream.new_zeros(()).expand_as(stream)
    return {"input": stream, "output": zeros, "added": zeros, "kwargs": {}}


@contextmanager
def traced(layer: nn.Module) -> Iterator[Seen]:
    """Inside the context, note the parts of each run of a layer."""
    with _tapped(layer, "attention") as a, _tapped(layer, "ffn") as f, _between(layer) as between:
        yield Seen(a, f, between)


@contextmanager
def _between(layer: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside the context, each run of a layer writes the stream `between` its parts; nothing if it has no FFN."""
    seen: dict[str, Tensor] = {}
    if part_of(layer, "ffn") is None:
        yield seen
        return

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["between"] = args[0] if args else kwargs["hidden_states"]

    handle = entrance(layer, "ffn").register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def _tapped(layer: nn.Module, sub_block: SubBlock) -> Iterator[dict[str, Any]]:
    """Inside the context, a run writes `input`, `kwargs`, `output`, and what is `added` behind a norm, if there is the part."""
    seen: dict[str, Any] = {}
    if part_of(layer, sub_block) is None:
        yield seen
        return

    def tap(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        rest = dict(kwargs)
        seen["input"] = args[0] if args else rest.pop("hidden_states")
        seen["kwargs"] = rest
        seen["output"] = seen["added"] = output[0] if isinstance(output, tuple) else output

    def normed(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen["added"] = output

    with ExitStack() as hooks:
        handle = sub_block_of(layer, sub_block).register_forward_hook(tap, with_kwargs=True)
        hooks.callback(handle.remove)
        if (behind := norm_behind(layer, sub_block)) is not None:
            hooks.callback(behind.register_forward_hook(normed).remove)
        yield seen
