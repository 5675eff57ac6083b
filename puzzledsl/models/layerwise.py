"""Run a model one layer at a time, with transformers' own modules, masks and position embeddings.

The model's own forward is run once with recorders in place of its layers, to learn the arguments that it passes to them.
So a layer run here gets exactly the arguments it gets in the whole model.

Shapes: B sequences, S tokens, H hidden, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.models.families.access import family_of, layers, part_of, read_by_head, sub_block_of
from puzzledsl.models.families.build import without
from puzzledsl.models.kernels import products as float32_products
from puzzledsl.models.kernels.products import NOT_PACKED, PackedWeights, fast_products, fused_ffns, repeatable
from puzzledsl.models.least_squares.grams import LayerTrace
from puzzledsl.models.placement import is_paged
from puzzledsl.models.transformers_private import with_own_modules


class LayerRunner:
    """Runs layers of `model`, or others in their place, one at a time, without KV cache and padding.

    Several threads may run layers at once, after a first `layer_kwargs` for that shape of states; for a `paged` model, only one.
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
        """Inside the context, run the model's layers faster where no gradients are needed: packed weights and fused FFNs.

        Packing pays off over many runs; the weights must not change in place inside the context. Weights of a `paged` model are
        not packed, which does not change the results.
        """
        linears = [module for module in layers(self._model).modules() if isinstance(module, nn.Linear)]
        self._packed = NOT_PACKED if self.paged else PackedWeights(module.weight for module in linears)
        try:
            held = [layer for layer in layers(self._model) if part_of(layer, "ffn") is not None]
            ffns = [sub_block_of(layer, "ffn") for layer in held]
            with fused_ffns(ffns, self._packed):
                yield
        finally:
            self._packed = NOT_PACKED

    def layer(self, layer_idx: int) -> nn.Module:
        """Return a layer's module."""
        return layers(self._model)[layer_idx]

    def run_layer(self, layer_idx: int, hidden_BSH: Tensor, layer: nn.Module | None = None) -> Tensor:
        """Run one whole layer, or `layer` in its place, [B, S, H] -> [B, S, H], with the fast products of `models.kernels`."""
        layer, kwargs = layer or self.layer(layer_idx), self.layer_kwargs(layer_idx, hidden_BSH)
        device = hidden_BSH.device  # products are fast on a CPU, and sums repeatable on a GPU
        with fast_products(device, self._packed) if device.type == "cpu" else repeatable(device):
            return cast(Tensor, layer(hidden_BSH, **kwargs))

    def run_attention(self, layer_idx: int, hidden_BSH: Tensor) -> Tensor:
        """Run a layer without its FFN. Return the stream after attention, [B, S, H]. Not for a `paged` model."""
        return self.run_layer(layer_idx, hidden_BSH, without(self.layer(layer_idx), "ffn"))

    def run_ffn(self, layer_idx: int, attended_BSH: Tensor, layer: nn.Module | None = None) -> Tensor:
        """Run a layer, or `layer`, without its attention: stream after attention -> output [B, S, H]. Not for a `paged` model."""
        half = without(layer or self.layer(layer_idx), "attention")
        return self.run_layer(layer_idx, attended_BSH, half)

    def passed(self, stream: Sequence[Tensor], first: int = 0, end: int | None = None) -> Sequence[Tensor]:
        """Run all groups [B, S, H] of `stream` through the layers `first` to `end - 1` (None: the last), layer by layer."""
        for layer_idx in range(first, len(self) if end is None else end):
            stream = [self.run_layer(layer_idx, hidden) for hidden in stream]
        return stream

    def trace_layer(self, layer_idx: int, hidden_BSH: Tensor) -> LayerTrace:
        """Run one whole layer and return the inputs and outputs of its two sub-blocks."""
        layer, notes = observed(self.layer(layer_idx))
        output = self.run_layer(layer_idx, hidden_BSH, layer)
        return trace_of(notes, hidden_BSH, output, self.layer_kwargs(layer_idx, hidden_BSH))

    def final_norm(self, hidden_BSH: Tensor) -> Tensor:
        """Return the head's input from the last layer's output, [..., H]: normed, and divided as `read_by_head` does."""
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


Notes = dict[str, Any]  # fields of a `LayerTrace`, noted in one run of an observed layer


def observed(layer: nn.Module) -> tuple[nn.Module, Notes]:
    """Return a copy of a layer on the same weights, and the notes that each run of the copy fills in. The layer is unchanged."""
    notes, copied = Notes(), with_own_modules(layer)
    for sub_block in SUB_BLOCKS:
        if (own := part_of(layer, sub_block)) is not None:
            _tap(copied, own.module, notes, sub_block)
            if own.behind is not None:
                _tap(copied, own.behind, notes, f"{sub_block}_added")
    if (own := part_of(layer, "ffn")) is not None:
        _tap(copied, own.before or own.module, notes, "between")
    return copied, notes


def trace_of(notes: Notes, entering: Tensor, leaving: Tensor, layer_kwargs: dict[str, Any]) -> LayerTrace:
    """Return the trace of an observed run: its notes, and the states before and after. A missing sub-block has zero outputs."""
    found = {"between": leaving, "attention_kwargs": {}, **notes}
    for sub_block, stream in (("attention", entering), ("ffn", found["between"])):
        if f"{sub_block}_input" not in notes:
            zeros = stream.new_zeros(()).expand_as(stream)
            found |= {f"{sub_block}_input": stream, f"{sub_block}_output": zeros, f"{sub_block}_added": zeros}
    return LayerTrace(**found, output=leaving, layer_kwargs=layer_kwargs)


def _tap(layer: nn.Module, name: str, notes: Notes, noted: str) -> None:
    """Put a copy of a layer's module in its place, on the same weights and hooks, which notes what passes through it.

    `noted`: a sub-block's name, to note its input and output; `between`, to note the input; another field, to note the output.
    """
    module: nn.Module = getattr(layer, name)
    tapped: Any = copy(module)

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = module.forward(*args, **kwargs)
        given = output[0] if isinstance(output, tuple) else output
        rest = {key: value for key, value in kwargs.items() if key != "hidden_states"}
        if noted == "between":
            notes["between"] = args[0] if args else kwargs["hidden_states"]
        elif noted not in SUB_BLOCKS:
            notes[noted] = output
        else:
            notes[f"{noted}_input"] = args[0] if args else kwargs["hidden_states"]
            notes.update({f"{noted}_output": given, f"{noted}_added": given})
            notes.update({"attention_kwargs": rest} if noted == "attention" else {})
        return output

    tapped.forward = forward
    setattr(layer, name, tapped)
