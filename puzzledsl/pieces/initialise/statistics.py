"""Calibration statistics that every initialiser needs, layer by layer, in one pass through the parent.

The hidden states of all calibration tokens advance one layer at a time, so that a layer's inputs are still available
when its statistics are complete: merged heads and narrow FFNs are fitted to the layer's own inputs and outputs
(`calls`). Shapes: B sequences, S positions, H hidden, F intermediate width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.errors import NoCalibration
from puzzledsl.models.families import access
from puzzledsl.models.kernels.products import repeatable
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import Gram, LayerStatistics


def walk_layers(
    model: PreTrainedModel, token_blocks: Iterable[Tensor], layers: Sequence[int] | None = None
) -> Iterator[tuple[int, LayerStatistics]]:
    """Yield each wanted layer's statistics (default: all), in order, from blocks of token ids (B, S) without padding.

    To keep memory at one layer, drop a layer's statistics before requesting the next. Raises DiagnosticError (NoCalibration).
    """
    runner = LayerRunner(model)
    entering = (runner.embed(tokens.to(model.device)) for tokens in token_blocks)
    wanted = range(len(runner)) if layers is None else layers
    return walk_from(model, 0, entering, wanted, runner)


def walk_from(
    model: PreTrainedModel,
    first: int,
    hidden_states: Iterable[Tensor],
    layers: Sequence[int],
    runner: LayerRunner | None = None,
) -> Iterator[tuple[int, LayerStatistics]]:
    """Yield the statistics like `walk_layers`, from hidden states (B, S, H) that enter layer `first`; skip earlier layers."""
    runner = runner or LayerRunner(model)
    entering = [hidden.to(model.device) for hidden in hidden_states]
    if not entering:
        raise DiagnosticError(NoCalibration(None))
    shape = access.shape_of(model.config)
    for layer_idx in range(first, max(layers, default=-1) + 1):
        statistics = _empty(shape.at(layer_idx), model.device) if layer_idx in layers else None
        for index, hidden in enumerate(entering):
            with torch.no_grad(), repeatable(model.device):
                entering[index] = _run(runner, layer_idx, statistics, hidden)
        if statistics is not None:
            yield layer_idx, statistics
            statistics = None  # the caller may have dropped it, too


def _empty(shape: Shape, device: torch.device) -> LayerStatistics:
    width = shape.intermediate if shape.ffn == "dense" else 0
    return LayerStatistics(
        attention=Gram.zeros(shape.hidden, shape.hidden, device),
        ffn=Gram.zeros(shape.hidden, shape.hidden, device),
        activations=Gram.zeros(width, 0, device),
        activation_abs=torch.zeros(width, dtype=torch.float64, device=device),
    )


def _run(runner: LayerRunner, layer_idx: int, statistics: LayerStatistics | None, entering: Tensor) -> Tensor:
    """Run a layer, add its sub-blocks' inputs and outputs to `statistics`, and return its output.

    The output has the same bits with and without statistics, and as in the training behind it: spans of layers on several workers
    give the pieces of one process.
    """
    if statistics is None:
        return runner.run_layer(layer_idx, entering)
    with _counting_activations(runner.layer(layer_idx), statistics):
        trace = runner.trace_layer(layer_idx, entering)
    statistics.attention.add(trace.attention_input, trace.attention_output)
    statistics.ffn.add(trace.ffn_input, trace.ffn_output)
    statistics.calls.append((entering, trace))
    return trace.output


@contextmanager
def _counting_activations(layer: nn.Module, statistics: LayerStatistics) -> Iterator[None]:
    """Context in which a dense FFN adds what its last map reads to `statistics`."""
    if not len(statistics.activation_abs):
        yield
        return

    def down(module: nn.Module, args: Any) -> None:
        statistics.activations.add(args[0])
        flat = args[0].reshape(-1, args[0].shape[-1])
        statistics.activation_abs.add_(flat.abs().sum(0, dtype=torch.float32))

    hook = cast(nn.Module, access.sub_block_of(layer, "ffn").down_proj).register_forward_pre_hook(down)
    try:
        yield
    finally:
        hook.remove()
