"""Measure replacements in a parent whose weights are read layer by layer, with as few reads as memory allows.

All replacements that have branched off pass a layer together, right when the parent's own stream passes it. If their hidden
states exceed a share of the memory, those that wait are first brought to the top, and the next ones start a new wave: each wave
reads the layers above it once. One replacement after the other would read them once for each.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.memory import room_bytes
from puzzledsl.scoring.sweep.units import Unit, enters

WAVE_SHARE = 1 / 4
"""Share of the free memory of the device that the hidden states of a wave may take."""


@dataclass
class _Flight:
    """A unit on its way, with its hidden states [B, S, H] of all groups."""

    unit: Unit
    together: list[Tensor]


class Wavefront:
    """Brings units from the layers where they branch off to the top."""

    def __init__(
        self,
        runner: LayerRunner,
        climb: Callable[[int], object],
        started: Callable[[Unit], tuple[list[Tensor], int]],
        room_bytes: int | None = None,
    ) -> None:
        """`climb(layer)` brings the parent's stream to a layer. `started`: a unit's states, and the layer that they enter."""
        self._runner, self._climb, self._started = runner, climb, started
        self._room_bytes = _room_bytes(runner.device) if room_bytes is None else room_bytes

    def arriving(self, found: Sequence[Unit]) -> Iterator[tuple[Unit, list[Tensor]]]:
        """Yield each unit with its hidden states above the last layer."""
        of_layer: dict[int, list[Unit]] = {}
        for unit in found:
            of_layer.setdefault(enters(unit), []).append(unit)
        wave: list[_Flight] = []
        for layer_idx in range(len(self._runner) + 1):
            if not wave and all(entered < layer_idx for entered in of_layer):
                return
            if layer_idx:
                self._climb(layer_idx - 1)
                self._pass(layer_idx - 1, wave)
            for unit in of_layer.get(layer_idx, ()):
                together, _ = self._started(unit)
                wave.append(_Flight(unit, together))
                if self._held_bytes(wave) > self._room_bytes:
                    yield from self._landed(wave, layer_idx)
                    wave = []
        yield from self._landed(wave, len(self._runner))

    def _pass(self, layer_idx: int, wave: Sequence[_Flight]) -> None:
        for flight in wave:
            flight.together = [self._runner.run_layer(layer_idx, hidden) for hidden in flight.together]

    def _landed(self, wave: Sequence[_Flight], first: int) -> Iterator[tuple[Unit, list[Tensor]]]:
        for layer_idx in range(first, len(self._runner)):
            self._pass(layer_idx, wave)
        return ((flight.unit, flight.together) for flight in wave)

    def _held_bytes(self, wave: Sequence[_Flight]) -> int:
        return sum(hidden.nbytes for flight in wave for hidden in flight.together)


def _room_bytes(device: torch.device) -> int:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else room_bytes()
    return int(WAVE_SHARE * free)
