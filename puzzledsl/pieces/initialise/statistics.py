"""Calibration statistics that every initialiser needs, layer by layer, in one pass through the parent.

The hidden states of all calibration tokens advance one layer at a time, so that a layer's inputs are still available
when its statistics are complete: merged heads and narrow FFNs are fitted to the layer's own inputs and outputs
(`Call`). Shapes: B sequences, S positions, H hidden, F intermediate width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.models.families import access
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.models.least_squares.layer_statistics import Call, LayerStatistics
from puzzledsl.pieces.initialise.errors import NoCalibration

KEPT_TOKENS = 8192
"""Number of tokens per layer whose calls `collect_statistics` keeps, to fit alternatives on."""


def collect_statistics(
    model: PreTrainedModel,
    token_blocks: Iterable[Tensor],
    progress: Progress | None = None,
    layers: Sequence[int] | None = None,
    *,
    keep_tokens: int | None = KEPT_TOKENS,
) -> dict[int, LayerStatistics]:
    """Return the statistics of the given layers (default: all) together. `walk_layers` needs the memory of one layer only."""
    return dict(walk_layers(model, token_blocks, progress, layers, keep_tokens=keep_tokens))


def walk_layers(
    model: PreTrainedModel,
    token_blocks: Iterable[Tensor],
    progress: Progress | None = None,
    layers: Sequence[int] | None = None,
    *,
    keep_tokens: int | None = None,
) -> Iterator[tuple[int, LayerStatistics]]:
    """Yield each wanted layer's statistics, in order of layers, from blocks of token ids (B, S) without padding.

    `keep_tokens` limits the tokens whose calls are kept (None: all). To keep memory at one layer, drop a layer's
    statistics before requesting the next. Raises DiagnosticError (NoCalibration).
    """
    wanted = range(len(access.layers(model))) if layers is None else layers
    chunks = [_enter(model, input_ids=tokens.to(model.device)) for tokens in token_blocks]
    yield from _walk(model, chunks, 0, wanted, progress or Silent(), keep_tokens)


def walk_from(
    model: PreTrainedModel,
    first: int,
    hidden_states: Iterable[Tensor],
    layers: Sequence[int],
    *,
    keep_tokens: int | None = None,
) -> Iterator[tuple[int, LayerStatistics]]:
    """Yield the statistics like `walk_layers`, from hidden states (B, S, H) that enter layer `first`; skip earlier layers."""
    chunks = [_enter(model, inputs_embeds=hidden.to(model.device)) for hidden in hidden_states]
    yield from _walk(model, chunks, first, layers, Silent(), keep_tokens)


def _walk(
    model: PreTrainedModel,
    chunks: Sequence[_Chunk],
    first: int,
    layers: Sequence[int],
    report: Progress,
    keep_tokens: int | None,
) -> Iterator[tuple[int, LayerStatistics]]:
    if not chunks:
        raise DiagnosticError(NoCalibration(None))
    wanted, end = set(layers), max(layers, default=-1) + 1
    report.start("calibrate", max(0, end - first) * len(chunks))
    for layer_idx in range(first, end):
        layer = access.layers(model)[layer_idx]
        statistics = _empty(layer, model) if layer_idx in wanted else None
        for chunk in chunks:
            with torch.no_grad(), _observing(layer, statistics, chunk.hidden_states, keep_tokens):
                chunk.hidden_states = layer(chunk.hidden_states, **chunk.calls[layer_idx])
            report.advance()
        if statistics is not None:
            yield layer_idx, statistics


@dataclass
class _Chunk:
    hidden_states: Tensor
    calls: list[dict[str, Any]]  # the keyword arguments each layer is called with


class _Recorder(nn.Module):
    """Replacement of a layer that records the arguments of its call and returns its input."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_states: Tensor | None = None
        self.kwargs: dict[str, Any] = {}

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        self.hidden_states, self.kwargs = hidden_states, kwargs
        return hidden_states


def _enter(model: PreTrainedModel, **inputs: Tensor) -> _Chunk:
    """Run the model's embedding on a block; return the hidden states and the arguments of each layer (masks, positions)."""
    base: Any = cast(Any, model).model
    real = base.layers
    recorders = [_Recorder() for _ in real]
    try:
        base.layers = nn.ModuleList(recorders)
        with torch.no_grad():
            base(**inputs, use_cache=False)
    finally:
        base.layers = real
    first = recorders[0].hidden_states
    assert first is not None
    return _Chunk(first, [recorder.kwargs for recorder in recorders])


def _empty(layer: nn.Module, model: PreTrainedModel) -> LayerStatistics:
    shape, device = access.shape_of(model.config), model.device
    return LayerStatistics(
        attention=Gram.zeros(shape.hidden, shape.hidden, device),
        ffn=Gram.zeros(shape.hidden, shape.hidden, device),
        activations=Gram.zeros(shape.intermediate, 0, device),
        activation_abs=torch.zeros(shape.intermediate, dtype=torch.float64, device=device),
    )


@contextmanager
def _observing(
    layer: nn.Module, statistics: LayerStatistics | None, entering: Tensor, keep_tokens: int | None
) -> Iterator[None]:
    """Context in which a running layer adds its sub-blocks' inputs and outputs to `statistics`."""
    if statistics is None:
        yield
        return
    seen: dict[str, Any] = {}

    def attention(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        kwargs = dict(kwargs)
        x = kwargs.pop("hidden_states") if "hidden_states" in kwargs else args[0]
        seen.update(hidden_states=x, kwargs=kwargs, output=output[0])
        statistics.attention.add(x, output[0])

    def ffn(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.update(ffn_input=args[0], ffn_output=output)
        statistics.ffn.add(args[0], output)

    def down(module: nn.Module, args: Any) -> None:
        statistics.activations.add(args[0])
        flat = args[0].reshape(-1, args[0].shape[-1])
        statistics.activation_abs.add_(flat.abs().sum(0, dtype=torch.float32))

    down_proj = cast(nn.Module, access.ffn(layer).down_proj)
    hooks = [
        access.attention(layer).register_forward_hook(attention, with_kwargs=True),
        access.ffn(layer).register_forward_hook(ffn),
        down_proj.register_forward_pre_hook(down),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    kept = sum(call.entering.shape[:-1].numel() for call in statistics.calls)
    if keep_tokens is None or kept < keep_tokens:
        statistics.calls.append(Call(entering=entering, **seen))
