"""Hidden states of several token groups, in memory or, above a size limit, in a memory-mapped file.

The file is unlinked as soon as it is mapped, so an interrupted run leaves nothing behind.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

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
