"""The parent's stream at the points that healing needs, moved up the layers as they are asked for.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.healing.streams import HELD_BYTES, Streams
from puzzledsl.modeling.layerwise import LayerRunner


class ParentStream:
    """Token groups on their way up the parent. Points that are asked for ascend; see `healing.chain` for their numbers."""

    def __init__(
        self, runner: LayerRunner, groups: Sequence[Tensor], folder: Path, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Embed token ids [B, S]. Streams of more than `held_bytes` are kept in files in `folder`."""
        self._runner, self._groups, self._folder, self._held_bytes = runner, groups, folder, held_bytes
        self._points = {0: self.new()}
        self._layer_idx = 0  # the layer that the last point enters
        self._kwargs: dict[tuple[int, torch.Size], dict[str, Any]] = {}
        for index, tokens in enumerate(groups):
            self._points[0][index] = runner.embed(tokens.to(runner.device))

    def new(self) -> Streams:
        """Room for these groups' hidden states at one more point."""
        return Streams(self._runner, self._groups, self._folder, held_bytes=self._held_bytes)

    def at(self, point: int) -> Streams:
        """The stream at a point at or above the last one that was forgotten."""
        while point not in self._points:
            self._step()
        return self._points[point]

    def reaches(self, point: int) -> bool:
        """True where `at` need not run a layer for this point."""
        return point <= 2 * self._layer_idx

    def forget_below(self, point: int) -> None:
        """Nothing below this point will be asked for; the last one there is stays, to go on from."""
        self.at(point)
        for old in [p for p in self._points if p < point and p != 2 * self._layer_idx]:
            del self._points[old]

    def attention_kwargs(self, layer_idx: int, hidden_BSH: Tensor) -> dict[str, Any]:
        """The other arguments of a layer's attention (positions, mask …) for hidden states of this shape."""
        return self._kwargs[layer_idx, hidden_BSH.shape]

    def _step(self) -> None:
        entering, between, leaving = self._points[2 * self._layer_idx], self.new(), self.new()
        for index, hidden in enumerate(entering):
            trace = self._runner.trace_layer(self._layer_idx, hidden)
            between[index], leaving[index] = hidden + trace.attention_output, trace.output
            self._kwargs[self._layer_idx, hidden.shape] = trace.attention_kwargs
        self._points[2 * self._layer_idx + 1] = between
        self._layer_idx += 1
        self._points[2 * self._layer_idx] = leaving
