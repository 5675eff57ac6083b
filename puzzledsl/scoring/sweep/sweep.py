"""Measure all replacements in one pass up a model: each branches off at its own layer and runs only the layers above it.

A run of dropped layers takes the input of its first layer and continues at the layer after its last. Replacements of one layer
are one unit if the scored tokens are few, as are runs that end below one layer; a unit does not depend on what is cached or on
the number of workers. In a parent whose weights are read layer by layer, all units that have branched off pass a layer
together, right when the parent's own stream does; if their hidden states exceed a share of memory, they are brought to the top
first.

Shapes: B sequences, S positions, H hidden, P scored positions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.base.progress import Progress
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import Ascent, Workers, room_bytes
from puzzledsl.scoring.fit import Sums, counted, observed_pass
from puzzledsl.scoring.measures import Figures, Measure, PositionKls, group_tokens
from puzzledsl.scoring.replacements import Incumbent, Replacement, Run, ScoringWork
from puzzledsl.scoring.sweep.climb import Climb
from puzzledsl.scoring.table import INCUMBENT, MemoryCache, Name

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


def is_known(unit: Unit, cache: MemoryCache) -> bool:
    """True if all metrics of a unit are cached."""
    return all(figures_name(scored) in cache.figures for _, scored in unit)


def figures_name(scored: Scored) -> Name:
    """Return the name under which the metrics of a replacement or run are cached."""
    return scored.layer, scored.table, scored.name


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


STREAMS_SHARE = 1 / 8
"""Share of free memory that the streams kept for block influence may take; larger ones go to a file."""
Measured = tuple[Figures, Tensor] | None
"""(metrics, KLs by position); None for a replacement that was measured before."""


@dataclass(frozen=True)
class _UnderWay:
    """A unit that a worker is measuring."""

    unit: Unit
    ascent: Ascent
    found: Future[list[Measured]]


class Sweep:
    """One pass up the layers of a model (`incumbent`) that measures every replacement and stores its metrics in `cache`."""

    def __init__(
        self,
        runner: LayerRunner,
        measure: Measure,
        metric: str,
        cache: MemoryCache,
        progress: Progress,
        incumbent: Incumbent,
        rows: PositionKls,
        work: Path,
        behind: Sequence[Tensor] = (),
    ) -> None:
        """Prepare a sweep with temporary files in `work`. `behind`: further tokens [B, S], only for block influence."""
        self.runner, self.measure, self.metric, self.cache = runner, measure, metric, cache
        self.progress, self.incumbent, self.rows = progress, incumbent, rows
        self.work, self.behind = work, behind
        self.influence: Sequence[Sums] = ()
        self._under_way: deque[_UnderWay] = deque()
        self.climb = Climb(runner, ())
        self.effort = ScoringWork.of(shape_of(incumbent.model.config))

    def run(
        self,
        todo: Sequence[Replacement],
        around: ModelDefinition | None,
        runs: Sequence[Run] = (),
        effort: ScoringWork | None = None,
    ) -> None:
        """Measure everything in `todo` and `runs` that is not cached; before them, with `around`, the child itself."""
        found = self.units(todo, runs)
        self.effort = effort or self.effort
        with Workers(self.runner.device, shared=not self.runner.paged) as workers:
            self.open(around, runs, workers)
            with self.runner.packed():
                self._measure_all(found, workers)
        self.cache.restore_order([*([] if around is None else [INCUMBENT]), *names_of(found)])

    def units(self, todo: Sequence[Replacement], runs: Sequence[Run]) -> list[Unit]:
        """Return what is measured together, in the order of measuring."""
        return units(todo, runs, len(self.runner), self._together())

    def open(
        self, around: ModelDefinition | None, runs: Sequence[Run], workers: Workers, *, observed: bool = True
    ) -> None:
        """Run the parent, then become the child `around` and measure it. `observed`: compute the block influence, too."""
        entering = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.measure.groups]
        normed = self._parent(entering, workers) if observed else leaving(self.runner, entering)
        self.measure.set_parent(normed)
        if around is not None:
            self.incumbent.become(around)
            if INCUMBENT not in self.cache.figures:
                self.cache.add(INCUMBENT, self.measure.figures(leaving(self.runner, entering)))
        longest = max((run.length for run in runs), default=0)
        self.climb = Climb(self.runner, entering, longest=longest, before=self._wait_until_above)

    def measured(self, unit: Unit) -> list[Measured]:
        """Measure one unit in this thread."""
        together, above = self.started(unit)
        return self._finished(unit, together, above, Ascent(above))

    def _measure_all(self, found: Sequence[Unit], workers: Workers) -> None:
        """Measure units, several at once. The parent's layers are changed only here, when all workers are above them."""
        if self.runner.paged:
            self._measure_paged(found)
            return
        self._ask_for_arguments(found)
        self._ready(found, workers.count)
        for unit in found:
            if is_known(unit, self.cache):
                self.progress.advance(len(unit), kept=True)
                continue
            together, above = self.started(unit)
            ascent = Ascent(above)
            self._start(unit, ascent, partial(self._finished, unit, together, above, ascent), workers)
        self._keep_all()

    def _ready(self, found: Sequence[Unit], at_once: int) -> None:
        """Begin to count the time of units that are not known, so many of them at once."""
        unknown = (scored for unit in found if not is_known(unit, self.cache) for _, scored in unit)
        self.progress.ready(self.effort.behind + sum(map(self.effort.above, unknown)), at_once, cold=at_once)

    def _measure_paged(self, found: Sequence[Unit]) -> None:
        """Measure units layer by layer: all of them pass a layer while its weights are in memory."""
        unknown = [unit for unit in found if not is_known(unit, self.cache)]
        self._ready(unknown, sum(map(len, unknown)))
        self.progress.advance(sum(map(len, found)) - sum(map(len, unknown)), kept=True)
        wave = Wavefront(self.runner, self.climb.entering, self.started)
        for unit, together in wave.arriving(unknown):
            self._keep(unit, self.arrived(unit, together))

    def _parent(self, entering: Sequence[Tensor], workers: Workers) -> list[Tensor]:
        """Return the parent's final states after the last norm, and set `influence`, by group; paged, all groups at once."""
        more = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.behind]
        is_text = [
            *self.measure.is_text,
            *(torch.ones_like(tokens, dtype=torch.bool) for tokens in self.behind),
        ]
        groups, index = [*entering, *more], counted(is_text)
        size = len(groups) if self.runner.paged else 1
        held_bytes = int(STREAMS_SHARE * room_bytes() / workers.count / size)
        found = [
            workers.submit(
                partial(
                    observed_pass,
                    self.runner,
                    groups[start : start + size],
                    index[start : start + size],
                    self.work,
                    held_bytes,
                )
            )
            for start in range(0, len(groups), size)
        ]
        passed = [group for part in found for group in part.result()]
        self.influence = [sums for _, sums in passed]
        return [self.runner.final_norm(hidden) for hidden, _ in passed[: len(entering)]]

    def started(self, unit: Unit) -> tuple[list[Tensor], int]:
        """Return a unit's hidden states above what is replaced, one tensor for each group, and the layer that they enter."""
        scored = unit[0][1]
        if isinstance(scored, Run):
            streams = [self.climb.entering(run.layer) for _, run in unit]
            return joined(streams), scored.end
        groups = self.climb.groups(scored.layer)
        self._wait_until_above(scored.layer)
        above: list[list[Tensor]] = []
        for _, replacement in unit:
            assert isinstance(replacement, Replacement)
            with replacement.applied(self.incumbent):
                above.append([self._layer(replacement, *group) for group in groups])
        return joined(above), scored.layer + 1

    def _layer(self, replacement: Replacement, hidden_BSH: Tensor, attended_BSH: Tensor | None) -> Tensor:
        """Run the replaced layer. If its attention is not replaced, start from the known stream after attention."""
        if attended_BSH is None or any(sub_block == "attention" for sub_block, _, _ in replacement.parts):
            return self.runner.run_layer(replacement.layer, hidden_BSH)
        return self.runner.run_ffn(replacement.layer, attended_BSH)

    def _finished(self, unit: Unit, together: Sequence[Tensor], above: int, ascent: Ascent) -> list[Measured]:
        """Run a unit through the layers from `above` on and measure it."""
        with ascent:
            for layer_idx in range(above, len(self.runner)):
                together = [self.runner.run_layer(layer_idx, hidden) for hidden in together]
                ascent.to(layer_idx + 1)
        return self.arrived(unit, together)

    def arrived(self, unit: Unit, together: Sequence[Tensor]) -> list[Measured]:
        """Measure a unit above the last layer; None for replacements that are cached already."""
        normed = [self.runner.final_norm(hidden) for hidden in together]
        apart = [torch.split(hidden, len(hidden) // len(unit)) for hidden in normed]
        return [
            None if figures_name(scored) in self.cache.figures else self.rows.of(self.measure, states)
            for (_, scored), states in zip(unit, zip(*apart, strict=True), strict=True)
        ]

    def _start(
        self, unit: Unit, ascent: Ascent, work: Callable[[], list[Measured]], workers: Workers
    ) -> None:
        """Have a worker measure a unit; if all workers are busy, first store the oldest unit's results."""
        self._under_way.append(_UnderWay(unit, ascent, workers.submit(work)))
        if len(self._under_way) > workers.count:
            self._keep_oldest()

    def _wait_until_above(self, layer_idx: int) -> None:
        """Wait until all workers are above a layer, so that it may be changed."""
        for earlier in self._under_way:
            earlier.ascent.wait_until_above(layer_idx)

    def _together(self) -> int:
        groups = self.measure.groups
        return max(1, group_tokens(self.runner.device) // groups[0].numel()) if len(groups) == 1 else 1

    def _ask_for_arguments(self, found: Sequence[Unit]) -> None:
        """Compute the layers' arguments for all shapes before workers run: `layer_kwargs` swaps layers for recorders."""
        for hidden in self.climb.entering(0):
            for size in {len(unit) for unit in found}:
                self.runner.layer_kwargs(0, hidden.new_empty(size * len(hidden), *hidden.shape[1:]))

    def _keep_oldest(self) -> None:
        done = self._under_way.popleft()
        self._keep(done.unit, done.found.result())

    def _keep(self, unit: Unit, found: Sequence[Measured]) -> None:
        keep(unit, found, self.rows, self.cache, self.progress, self.metric, self.effort)

    def _keep_all(self) -> None:
        while self._under_way:
            self._keep_oldest()


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


def keep(
    unit: Unit,
    found: Sequence[Measured],
    rows: PositionKls,
    cache: MemoryCache,
    progress: Progress,
    metric: str,
    effort: ScoringWork,
) -> None:
    """Store the results of a unit and report them."""
    for (row, scored), measured in zip(unit, found, strict=True):
        work = effort.above(scored)
        if measured is None:
            progress.advance(work=work)
            continue
        figures, kl_P = measured
        if row >= 0:
            rows.put(row, kl_P)  # before the entry, which implies that they are stored
        cache.add(figures_name(scored), figures)
        named = f"{scored.length} dropped" if isinstance(scored, Run) else scored.name
        progress.advance(work=work, layer=scored.layer, alternative=named, score=figures[metric])
