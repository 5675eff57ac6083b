"""The hidden states of all training and held-out tokens that enter one layer: a memory-mapped file that moves up the layers.

`work/hidden-<layer>.bin` appears complete (written beside, fsynced, renamed). The one before it stays until the next
step, by when the pieces made on the way are in the library, so a killed run goes on from its last unfinished layer. Two
layers' hidden states are on disk, none in memory.

Shapes: N blocks, S context, H hidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.files import replacing, reserve
from puzzledsl.modeling.layerwise import LayerRunner
from puzzledsl.seals import is_sealed, seal

_NAME = re.compile(r"hidden-(\d+)\.bin")
Visit = Callable[[int, Tensor], Tensor]


class Activations:
    """Hidden states [N, S, H] of `tokens` [N, S], at the entrance of layer `layer_idx`."""

    def __init__(
        self, runner: LayerRunner, tokens_NS: Tensor, batches: Sequence[slice], work: Path, *, last_layer: int
    ) -> None:
        """Takes up the furthest file in `work` that is not beyond `last_layer`, or embeds the tokens.

        `batches` share out the blocks: what is run together.
        """
        self._runner, self._tokens, self._batches, self._work = runner, tokens_NS, batches, work
        kept = [n for n in _layers_in(work) if n <= last_layer and is_sealed(self._path(n))]
        self.layer_idx = max(kept, default=0)
        if not kept:
            self._write(0, lambda _, tokens: runner.embed(tokens), tokens_NS)
        self._forget_others()

    def move_to(self, layer_idx: int) -> None:
        """Run whole layers until these are the hidden states that enter `layer_idx`."""
        while (here := self.layer_idx) < layer_idx:
            with torch.no_grad():
                self.step(lambda _, hidden, here=here: self._runner.run_layer(here, hidden))  # type: ignore[misc]

    def step(self, visit: Visit) -> None:
        """Move up one layer: `visit(number, hidden)` is called for each batch in order, and returns what leaves it."""
        self._forget_others()
        self._write(self.layer_idx + 1, visit, self._map(self._path(self.layer_idx)))
        self.layer_idx += 1

    def _write(self, layer_idx: int, visit: Visit, entering: Tensor) -> None:
        """Fill the file of `layer_idx` with what `visit` makes of `entering`, batch by batch."""
        with replacing(self._path(layer_idx)) as temporary:
            reserve(temporary, self._tokens.numel() * self._runner.hidden_size * self._runner.dtype.itemsize)
            leaving = self._map(temporary)
            for number, where in enumerate(self._batches):
                leaving[where] = visit(number, entering[where].to(self._runner.device)).to("cpu")
            del leaving
            seal(temporary)

    def _map(self, path: Path) -> Tensor:
        """The file as a tensor. Shared even where it is only read: a private map would count as memory of the process."""
        shape = (*self._tokens.shape, self._runner.hidden_size)
        size = shape[0] * shape[1] * shape[2]
        return torch.from_file(str(path), shared=True, size=size, dtype=self._runner.dtype).view(shape)

    def _path(self, layer_idx: int) -> Path:
        return self._work / f"hidden-{layer_idx}.bin"

    def _forget_others(self) -> None:
        for layer in _layers_in(self._work):
            if layer != self.layer_idx:
                self._path(layer).unlink()


def _layers_in(work: Path) -> list[int]:
    if not work.is_dir():
        return []
    return [int(match[1]) for path in work.iterdir() if (match := _NAME.fullmatch(path.name))]
