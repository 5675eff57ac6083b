"""Hidden states of several token groups, in memory or, above a size limit, in a memory-mapped file.

The file is unlinked as soon as it is mapped, so an interrupted run leaves nothing behind.

Shapes: B sequences, S positions, H hidden.

The parent's stream at the points that healing needs, computed layer by layer on demand.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.base.files import reserve
from puzzledsl.models.layerwise import LayerRunner

HELD_BYTES = 1 << 30
"""Default limit: streams above this size are kept in a file."""


class Streams:
    """A list of hidden states [..., H], one for each group. States in a file are copied to the device when read."""

    def __init__(
        self, runner: LayerRunner, groups: Sequence[Tensor], folder: Path, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Allocate streams for groups of positions, [B, S] or flat. Their content is undefined until it is set."""
        self._device = runner.device
        shapes = [(*group.shape, runner.hidden_size) for group in groups]
        numbers = sum(group.numel() for group in groups) * runner.hidden_size
        self._groups: list[Tensor | None] = [None] * len(shapes)
        self.in_file = numbers * runner.dtype.itemsize > held_bytes
        if self.in_file:
            self._groups = list(_mapped(folder, numbers, runner.dtype, shapes))

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Tensor:
        found = self._groups[index]
        assert found is not None, "a stream is read before it is set"
        return found.to(self._device) if self.in_file else found

    def __setitem__(self, index: int, hidden: Tensor) -> None:
        place = self._groups[index]
        if self.in_file and place is not None:
            place.copy_(hidden)
        else:
            self._groups[index] = hidden

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))


def _mapped(
    folder: Path, numbers: int, dtype: torch.dtype, shapes: Sequence[tuple[int, ...]]
) -> Iterator[Tensor]:
    """Yield tensors of these shapes that share one memory-mapped file. A private map would count as memory of the process."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".hidden-", suffix=".tmp", dir=folder)
    os.close(handle)
    try:
        reserve(Path(name), numbers * dtype.itemsize)
        whole = torch.from_file(name, shared=True, size=numbers, dtype=dtype)
    finally:
        Path(name).unlink()
    first = 0
    for shape in shapes:
        size = torch.Size(shape).numel()
        yield whole[first : first + size].view(shape)
        first += size


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
