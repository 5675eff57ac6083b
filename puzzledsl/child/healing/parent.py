"""The parent's stream at the points that healing needs, computed layer by layer on demand.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.child.healing.streams import HELD_BYTES, Streams
from puzzledsl.models.layerwise import LayerRunner


class ParentStream:
    """The parent's stream of several token groups. Points (see `child.healing.chain`) are requested in ascending order."""

    def __init__(
        self, runner: LayerRunner, groups: Sequence[Tensor], folder: Path, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Embed token ids [B, S]. Streams of more than `held_bytes` are kept in files in `folder`."""
        self._runner, self._groups, self._folder, self._held_bytes = runner, groups, folder, held_bytes
        self._points = {0: self.new()}
        self._layer_idx = 0  # the layer that reads the last computed point
        self._kwargs: dict[tuple[int, torch.Size], dict[str, Any]] = {}
        for index, tokens in enumerate(groups):
            self._points[0][index] = runner.embed(tokens.to(runner.device))

    def new(self) -> Streams:
        """Return empty `Streams` with the shapes of these groups."""
        return Streams(self._runner, self._groups, self._folder, held_bytes=self._held_bytes)

    def at(self, point: int) -> Streams:
        """Return the stream at a point, running layers up to it. It must not be a point that was forgotten."""
        while point not in self._points:
            self._step()
        return self._points[point]

    def reaches(self, point: int) -> bool:
        """True if `at` returns this point without running a layer."""
        return point <= 2 * self._layer_idx

    def drop_below(self, point: int) -> None:
        """Drop the streams below a point. The last computed point is kept, because the next layer reads it."""
        self.at(point)
        for old in [p for p in self._points if p < point and p != 2 * self._layer_idx]:
            del self._points[old]

    def attention_kwargs(self, layer_idx: int, hidden_BSH: Tensor) -> dict[str, Any]:
        """Return the other arguments of a layer's attention (positions, mask, …) for states of this shape.

        The layer must have been run. Raises KeyError otherwise.
        """
        return self._kwargs[layer_idx, hidden_BSH.shape]

    def _step(self) -> None:
        entering, between, leaving = self._points[2 * self._layer_idx], self.new(), self.new()
        for index, hidden in enumerate(entering):
            trace = self._runner.trace_layer(self._layer_idx, hidden)
            between[index], leaving[index] = trace.between, trace.output
            self._kwargs[self._layer_idx, hidden.shape] = trace.attention_kwargs
        self._points[2 * self._layer_idx + 1] = between
        self._layer_idx += 1
        self._points[2 * self._layer_idx] = leaving
