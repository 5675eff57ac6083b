"""Measure all replacements in one pass up a model: each branches off at its own layer and runs only the layers above it.

A run of dropped layers takes the input of its first layer and continues at the layer after its last. Replacements of one layer
are one unit if the scored tokens are few, as are runs that end below one layer; a unit does not depend on what is cached or on
the number of workers. In a parent whose weights are read layer by layer, all units that have branched off pass a layer
together, right when the parent's own stream does; if their hidden states exceed a share of memory, they are brought to the top
first.

Shapes: B sequences, S positions, H hidden, P scored positions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import Ascent, Workers, room_bytes
from puzzledsl.pieces.store.library import Library
from puzzledsl.scoring.fit import Sums, counted, observed_pass
from puzzledsl.scoring.measures import Divergence, Figures, Measure, group_tokens
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.table import Name

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


Scored = Replacement | Run
Unit = tuple[tuple[int, Scored], ...]
"""Replacements or runs, each with its row in `Rows`; runs have row -1, because nothing but their metrics is kept."""


def units(todo: Sequence[Replacement], runs: Sequence[Run], layers: int, together: int) -> list[Unit]:
    """Return all units in the order of their layers; at a layer, the runs that end below it come first."""
    found: list[Unit] = []
    for layer_idx in range(layers + 1):
        found += _batches([(-1, run) for run in runs if run.end == layer_idx], together)
        here = [(row, each) for row, each in enumerate(todo) if each.layer == layer_idx]
        found += _batches(here, together)
    return found


def single_units(todo: Sequence[Replacement], runs: Sequence[Run]) -> list[Unit]:
    """Return a unit for each replacement and run, without a row, by ascending first layer."""
    replaced: list[Scored] = [*todo, *runs]
    return [((-1, scored),) for scored in sorted(replaced, key=lambda each: each.layer)]


def _batches(numbered: Sequence[tuple[int, Scored]], size: int) -> Iterator[Unit]:
    return (tuple(numbered[start : start + size]) for start in range(0, len(numbered), size))


def names_of(found: Sequence[Unit]) -> Iterator[Name]:
    """Yield the names of all replacements and runs in the order in which they are measured."""
    return (figures_name(scored) for unit in found for _, scored in unit)


def enters(unit: Unit) -> int:
    """Return the layer that a unit enters after what is replaced."""
    scored = unit[0][1]
    return scored.end if isinstance(scored, Run) else scored.layer + 1


def is_known(unit: Unit, known: Collection[Name]) -> bool:
    """True if all metrics of a unit are known."""
    return all(figures_name(scored) in known for _, scored in unit)


def figures_name(scored: Scored) -> Name:
    """Return the name under which the metrics of a replacement or run are cached."""
    return scored.layer, scored.table, scored.name


WAVE_SHARE = 1 / 4
"""Share of the free memory of the device that the hidden states of a wave may take."""
STREAMS_SHARE = 1 / 8
"""Share of free memory that the streams kept for block influence may take; larger ones go to a file."""
Measured = tuple[Figures, Tensor] | None
"""(metrics, KLs by position, empty where they are not kept); None for a replacement that was measured before."""


@dataclass
class Flight:
    """A unit on its way through the layers above what is replaced, to be measured in a thread of its own."""

    unit: Unit
    ascent: Ascent
    work: Callable[[], list[Measured]] | None

    def land(self) -> list[Measured]:
        """Return what is measured of the unit, and drop its hidden states."""
        work, self.work = self.work, None
        assert work is not None, "a unit is measured once"
        with self.ascent:
            return work()


class Sweep:
    """One pass up the layers of a model, from which every replacement branches off to be measured."""

    def __init__(
        self,
        runner: LayerRunner,
        measure: Measure,
        model: PreTrainedModel,
        library: Library,
        work: Path,
        *,
        behind: Sequence[Tensor] = (),
        keeps_kls: bool = False,
    ) -> None:
        """Prepare a sweep with temporary files in `work`. `behind`: further tokens [B, S], only for block influence."""
        self.runner, self.measure, self.model, self._library = runner, measure, model, library
        self._work, self._behind, self._keeps_kls = work, behind, keeps_kls
        self.influence: Sequence[Sums] = ()
        self._climb = Climb(runner, ())
        self._known: Collection[Name] = ()
        self._ascents: deque[Ascent] = deque()

    def units(self, todo: Sequence[Replacement], runs: Sequence[Run]) -> list[Unit]:
        """Return what is measured together, in the order of measuring."""
        groups = self.measure.groups
        together = max(1, group_tokens(self.runner.device) // groups[0].numel()) if len(groups) == 1 else 1
        return units(todo, runs, len(self.runner), together)

    def open(self, runs: Sequence[Run], workers: Workers, *, observed: bool = True) -> None:
        """Run the parent. `observed`: compute the block influence, too."""
        entering = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.measure.groups]
        normed = self._parent(entering, workers) if observed else leaving(self.runner, entering)
        self.measure.set_parent(normed)
        longest = max((run.length for run in runs), default=0)
        self._climb = Climb(self.runner, entering, longest=longest, before=self._wait_until_above)

    def measuring(
        self, found: Sequence[Unit], known: Collection[Name], workers: Workers
    ) -> Iterator[tuple[Unit, list[Measured]]]:
        """Yield each unit with what is measured of it, but for names in `known`.

        Several units are on their way at once. The model's layers are changed only here, when all units are above them.
        """
        self._known, self._ascents = known, deque(maxlen=workers.count + 1)
        yield from self._measuring(found, workers)

    def _measuring(self, found: Sequence[Unit], workers: Workers) -> Iterator[tuple[Unit, list[Measured]]]:
        if self.runner.paged:
            yield from ((unit, self._arrived(unit, together)) for unit, together in self._in_waves(found))
            return
        self._ask_for_arguments(found)
        yield from self._flown(found, workers)

    def _flown(self, found: Sequence[Unit], workers: Workers) -> Iterator[tuple[Unit, list[Measured]]]:
        for flight, measured in workers.each(Flight.land, map(self._flight, found)):
            yield flight.unit, measured

    def _flight(self, unit: Unit) -> Flight:
        together = self._started(unit)
        ascent = self._ascent(enters(unit))
        return Flight(unit, ascent, partial(self._finished, unit, together, ascent))

    def _ascent(self, layer: int) -> Ascent:
        self._ascents.append(ascent := Ascent(layer))
        return ascent

    def _in_waves(self, found: Sequence[Unit]) -> Iterator[tuple[Unit, list[Tensor]]]:
        """Yield units with their states above the last layer: all of a wave pass a layer while its weights are in memory."""
        of_layer: dict[int, list[Unit]] = {}
        for unit in found:
            of_layer.setdefault(enters(unit), []).append(unit)
        room, wave = _room_bytes(self.runner.device), list[tuple[Unit, list[Tensor]]]()
        for layer_idx in range(len(self.runner) + 1):
            if not wave and all(entered < layer_idx for entered in of_layer):
                return
            if layer_idx:
                self._climb.entering(layer_idx - 1)
                wave = self._passed(wave, layer_idx - 1, layer_idx)
            for unit in of_layer.get(layer_idx, ()):
                wave.append((unit, self._started(unit)))
                if sum(hidden.nbytes for _, on in wave for hidden in on) > room:
                    yield from self._passed(wave, layer_idx, len(self.runner))
                    wave = []
        yield from wave

    def _passed(
        self, wave: Sequence[tuple[Unit, list[Tensor]]], first: int, end: int
    ) -> list[tuple[Unit, list[Tensor]]]:
        """Return a wave that has passed the layers `first` to `end - 1`."""
        passed = list(wave)
        for layer_idx in range(first, end):
            for place, (unit, on) in enumerate(passed):
                passed[place] = unit, [self.runner.run_layer(layer_idx, hidden) for hidden in on]
        return passed

    def _parent(self, entering: Sequence[Tensor], workers: Workers) -> list[Tensor]:
        """Return the parent's final states after the last norm, and set `influence`, by group; paged, all groups at once."""
        more = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self._behind]
        behind = (torch.ones_like(tokens, dtype=torch.bool) for tokens in self._behind)
        groups, index = [*entering, *more], counted([*self.measure.is_text, *behind])
        size = len(groups) if self.runner.paged else 1
        held_bytes = int(STREAMS_SHARE * room_bytes() / workers.count / size)

        def observed(start: int) -> list[tuple[Tensor, Sums]]:
            part = slice(start, start + size)
            return observed_pass(self.runner, groups[part], index[part], self._work, held_bytes)

        parts = [workers.submit(partial(observed, start)) for start in range(0, len(groups), size)]
        passed = [group for part in parts for group in part.result()]
        self.influence = [sums for _, sums in passed]
        return [self.runner.final_norm(hidden) for hidden, _ in passed[: len(entering)]]

    def _started(self, unit: Unit) -> list[Tensor]:
        """Return a unit's hidden states above what is replaced, one tensor for each group."""
        scored = unit[0][1]
        if isinstance(scored, Run):
            return joined([self._climb.entering(run.layer) for _, run in unit])
        groups = self._climb.groups(scored.layer)
        self._wait_until_above(scored.layer)
        above: list[list[Tensor]] = []
        for _, replacement in unit:
            assert isinstance(replacement, Replacement)
            with replacement.applied(self.model, self._library):
                above.append([self._layer(replacement, *group) for group in groups])
        return joined(above)

    def _layer(self, replacement: Replacement, hidden_BSH: Tensor, attended_BSH: Tensor | None) -> Tensor:
        """Run the replaced layer. If its attention is not replaced, start from the known stream after attention."""
        if attended_BSH is None or any(sub_block == "attention" for sub_block, _, _ in replacement.parts):
            return self.runner.run_layer(replacement.layer, hidden_BSH)
        return self.runner.run_ffn(replacement.layer, attended_BSH)

    def _finished(self, unit: Unit, together: Sequence[Tensor], ascent: Ascent) -> list[Measured]:
        """Run a unit through the layers above what is replaced and measure it."""
        for layer_idx in range(enters(unit), len(self.runner)):
            together = [self.runner.run_layer(layer_idx, hidden) for hidden in together]
            ascent.to(layer_idx + 1)
        ascent.to(math.inf)
        return self._arrived(unit, together)

    def _arrived(self, unit: Unit, together: Sequence[Tensor]) -> list[Measured]:
        """Measure a unit above the last layer; None for replacements that are known already."""
        apart = [torch.split(hidden, len(hidden) // len(unit)) for hidden in self._normed(together)]
        return [
            None if figures_name(scored) in self._known else self._figures(states)
            for (_, scored), states in zip(unit, zip(*apart, strict=True), strict=True)
        ]

    def _normed(self, stream: Sequence[Tensor]) -> list[Tensor]:
        return [self.runner.final_norm(hidden) for hidden in stream]

    def _figures(self, normed: Sequence[Tensor]) -> tuple[Figures, Tensor]:
        """Return a replacement's metrics and its KLs [P], which are empty if they are not kept."""
        if not self._keeps_kls:
            return self.measure.figures(normed), torch.empty(0)
        assert isinstance(self.measure, Divergence)
        return self.measure.measured(normed)

    def _wait_until_above(self, layer_idx: int) -> None:
        """Wait until all units on their way are above a layer, so that it may be changed."""
        for ascent in self._ascents:
            ascent.wait_until_above(layer_idx)

    def _ask_for_arguments(self, found: Sequence[Unit]) -> None:
        """Compute the layers' arguments for all shapes before workers run: `layer_kwargs` swaps layers for recorders."""
        for hidden in self._climb.entering(0):
            for size in {len(unit) for unit in found}:
                self.runner.layer_kwargs(0, hidden.new_empty(size * len(hidden), *hidden.shape[1:]))


def _room_bytes(device: torch.device) -> int:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else room_bytes()
    return int(WAVE_SHARE * free)


def joined(streams: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Concatenate the streams of several replacements, group by group."""
    return [torch.cat(group) if len(group) > 1 else group[0] for group in zip(*streams, strict=True)]


def final_states(runner: LayerRunner, measure: Measure) -> list[Tensor]:
    """Return the final hidden states of the present model after the last norm, one [B, S, H] for each group of a measure."""
    return leaving(runner, [runner.embed(tokens.to(runner.device)) for tokens in measure.groups])


def leaving(runner: LayerRunner, stream: Sequence[Tensor]) -> list[Tensor]:
    """Return the final hidden states after the last norm, from those that enter layer 0. All groups pass a layer together."""
    for layer_idx in range(len(runner)):
        stream = [runner.run_layer(layer_idx, hidden) for hidden in stream]
    return [runner.final_norm(hidden) for hidden in stream]
