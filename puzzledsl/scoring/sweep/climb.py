"""The stream of a model at the layers that replacements branch off from, computed layer by layer on demand.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from puzzledsl.models.layerwise import LayerRunner

Entering = tuple[Tensor, Tensor | None]
"""(input of a layer, stream after its attention) of a group, [B, S, H] each. The second is None for a paged parent, whose FFN
cannot run alone."""


class Climb:
    """Streams of all groups at a layer and at the `longest` layers below it, where dropped runs begin."""

    def __init__(
        self,
        runner: LayerRunner,
        entering: Sequence[Tensor],
        *,
        longest: int = 0,
        before: Callable[[int], None] = lambda layer_idx: None,
    ) -> None:
        """Start with the streams that enter layer 0. `before(layer)` is called before a layer runs."""
        self._runner, self._bottom, self._longest, self._before = runner, list(entering), longest, before
        self._restart()

    def entering(self, layer_idx: int) -> Sequence[Tensor]:
        """Return the input of a layer, [B, S, H] for each group."""
        self._rise(layer_idx, layer_idx)
        return self._streams[layer_idx]

    def groups(self, layer_idx: int) -> Sequence[Entering]:
        """Return the input of a layer and the stream after its attention, for each group."""
        self._rise(layer_idx + 1, layer_idx)
        if layer_idx != self._top - 1:  # another unit has been higher already
            self._restart()
            self._rise(layer_idx + 1, layer_idx)
        return list(zip(self._streams[layer_idx], self._attended, strict=True))

    def _restart(self) -> None:
        """Go back to the bottom: a worker gets lower layers again when another worker is lost."""
        self._streams, self._top = {0: self._bottom}, 0
        self._attended: Sequence[Tensor | None] = ()

    def _rise(self, top: int, wanted: int) -> None:
        """Run layers until the input of `top` is known, and still that of `wanted`."""
        if wanted not in self._streams and wanted < self._top:
            self._restart()
        while self._top < top:
            self._before(self._top)
            halves = [self._halves(self._top, hidden) for hidden in self._streams[self._top]]
            self._attended = [attended for attended, _ in halves]
            self._top += 1
            self._streams[self._top] = [leaving for _, leaving in halves]
            self._streams.pop(self._top - 2 - self._longest, None)

    def _halves(self, layer_idx: int, hidden_BSH: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the stream after the layer's attention (None for a paged parent) and the layer's output, [B, S, H] each."""
        if self._runner.paged:
            return None, self._runner.run_layer(layer_idx, hidden_BSH)
        return self._runner.run_halves(layer_idx, hidden_BSH)
