"""Measure all replacements in one pass up a model: each branches off at its own layer and runs only the layers above it.

A run of dropped layers takes the input of its first layer and continues at the layer after its last.

Shapes: B sequences, S positions, H hidden, P positions of pairwise terms or KLs.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from puzzledsl.base.progress import Progress
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.memory import room_bytes
from puzzledsl.scoring.figures_cache import FiguresCache, Name
from puzzledsl.scoring.incumbent import Incumbent
from puzzledsl.scoring.influence import Sums, counted, observed_pass
from puzzledsl.scoring.measures import Divergence, Figures, Measure, group_tokens
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.states import States
from puzzledsl.scoring.table import INCUMBENT
from puzzledsl.scoring.workers import Ascent, Workers

Entering = tuple[Tensor, Tensor | None]
"""(input of a layer, stream after its attention) of a group, [B, S, H] each. The second is None for a paged parent, whose FFN
cannot run alone."""
Scored = Replacement | Run
Numbered = Sequence[tuple[int, Scored]]
"""Replacements or runs, each with its row in `Rows`; runs have row -1, because nothing but their metrics is kept."""
STREAMS_SHARE = 1 / 8
"""Share of free memory that the streams kept for block influence may take; larger ones go to a file."""
S = TypeVar("S", Replacement, Run)
Measured = tuple[Figures, Tensor, Tensor] | None
"""(metrics, final states for pairwise terms, KLs by position); None for a replacement that was measured before."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Files of data by replacement that pairwise terms and fits need besides the metrics."""

    states: States | None = None
    """Final hidden states after the last norm, at the positions that pairwise terms are means over."""
    kls: States | None = None
    """KL divergence at every scored position."""

    def put(self, row: int, states_PH: Tensor, kl_P: Tensor) -> None:
        """Write a replacement's row in each file; on return it is on the disk."""
        if self.states is not None:
            self.states.put(row, states_PH)
        if self.kls is not None:
            self.kls.put(row, kl_P)

    def of(self, measure: Measure, normed: Sequence[Tensor]) -> tuple[Figures, Tensor, Tensor]:
        """Return a replacement's metrics, final states [P, H] and KLs [P]; the latter two are empty where they are not kept."""
        if self.kls is None:
            return measure.figures(normed), self.positions(normed), torch.empty(0)
        assert isinstance(measure, Divergence)
        figures, kl_P = measure.measured(normed)
        return figures, self.positions(normed), kl_P

    def positions(self, normed: Sequence[Tensor]) -> Tensor:
        """Return the states at the positions that pairwise terms are means over, [P, H]; empty without pairwise terms."""
        if self.states is None:
            return torch.empty(0)
        return torch.cat([group.flatten(0, 1) for group in normed])[: self.states.positions]


@dataclass(frozen=True)
class _UnderWay:
    """A batch that a worker is measuring."""

    batch: Numbered
    ascent: Ascent
    found: Future[list[Measured]]


class Sweep:
    """One pass up the layers of a model (`incumbent`) that measures every replacement and stores its metrics in `cache`."""

    def __init__(
        self,
        runner: LayerRunner,
        measure: Measure,
        metric: str,
        cache: FiguresCache,
        progress: Progress,
        incumbent: Incumbent,
        rows: Rows,
        work: Path,
        behind: Sequence[Tensor] = (),
    ) -> None:
        """Prepare a sweep.

        `work`: folder for temporary files. `behind`: groups of tokens [B, S] after the scored ones, only for block influence.
        """
        self.runner, self.measure, self.metric, self.cache = runner, measure, metric, cache
        self.progress, self.incumbent, self.rows = progress, incumbent, rows
        self.work, self.behind = work, behind
        self.parent_PH = torch.empty(0)
        self.influence: Sequence[Sums] = ()
        self._under_way: deque[_UnderWay] = deque()

    def run(
        self, todo: Sequence[Replacement], around: ModelDefinition | None, runs: Sequence[Run] = ()
    ) -> None:
        """Measure everything in `todo` and `runs` that is not cached; before them, with `around`, the child itself."""
        with Workers(self.runner.device, shared=not self.runner.paged) as workers:
            entering = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.measure.groups]
            normed = self._parent(entering, workers)
            self.measure.set_parent(normed)
            self.parent_PH = self.rows.positions(normed)
            if around is not None:
                self.incumbent.become(around)
                if INCUMBENT not in self.cache.figures:
                    self.cache.add(INCUMBENT, self.measure.figures(self._leaving(0, entering)))
            with self.runner.packed():
                self._ask_for_arguments(todo, runs, entering)
                self._up_the_layers(todo, runs, entering, workers)
        self.cache.restore_order([*([] if around is None else [INCUMBENT]), *self._in_order(todo, runs)])

    def _in_order(self, todo: Sequence[Replacement], runs: Sequence[Run]) -> Iterator[Name]:
        """Yield the names of all entries in the order measured; at a layer the runs that end below it come first."""
        for layer_idx in range(len(self.runner) + 1):
            yield from (figures_name(run) for run in runs if run.end == layer_idx)
            yield from (figures_name(replacement) for replacement in todo if replacement.layer == layer_idx)

    def _up_the_layers(
        self, todo: Sequence[Replacement], runs: Sequence[Run], entering: list[Tensor], workers: Workers
    ) -> None:
        longest = max((run.length for run in runs), default=0)
        below: dict[int, list[Tensor]] = {}  # inputs of the last `longest` layers, where runs may begin
        for layer_idx in range(len(self.runner)):
            self._wait_until_above(layer_idx)  # no worker may run the layer while `_halves` has hooks on it
            halves = [self._halves(layer_idx, hidden) for hidden in entering]
            self._measure_runs([run for run in runs if run.end == layer_idx], below, workers)
            of_layer = [(row, r) for row, r in enumerate(todo) if r.layer == layer_idx]
            groups = [(hidden, attended) for hidden, (attended, _) in zip(entering, halves, strict=True)]
            self._measure(of_layer, groups, workers)
            if runs:
                below.pop(layer_idx - longest, None)
                below[layer_idx] = entering
            entering = [leaving for _, leaving in halves]
        self._measure_runs([run for run in runs if run.end == len(self.runner)], below, workers)
        self._keep_all()

    def _parent(self, entering: Sequence[Tensor], workers: Workers) -> list[Tensor]:
        """Return the parent's final hidden states after the last norm, and set `influence`. One group per worker at a time."""
        more = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.behind]
        is_text = [
            *self.measure.is_text,
            *(torch.ones_like(tokens, dtype=torch.bool) for tokens in self.behind),
        ]
        pairs = zip([*entering, *more], counted(is_text), strict=True)
        held_bytes = int(STREAMS_SHARE * room_bytes() / workers.count)
        found = [
            workers.submit(partial(observed_pass, self.runner, *pair, self.work, held_bytes))
            for pair in pairs
        ]
        groups = [group.result() for group in found]
        self.influence = [sums for _, sums in groups]
        return [self.runner.final_norm(hidden) for hidden, _ in groups[: len(entering)]]

    def _measure(
        self, of_layer: Sequence[tuple[int, Replacement]], entering: Sequence[Entering], workers: Workers
    ) -> None:
        """Measure all replacements of one layer. The layer is changed only here, when all workers are in layers above it."""
        for batch in self._batches(of_layer):
            layer_idx = batch[0][1].layer
            self._wait_until_above(layer_idx)
            together = self._replaced(batch, entering)
            self._submit(batch, together, [len(hidden) for hidden, _ in entering], layer_idx + 1, workers)

    def _measure_runs(
        self, runs: Sequence[Run], below: Mapping[int, Sequence[Tensor]], workers: Workers
    ) -> None:
        """Measure all runs that end below one layer. `below[layer]`: the layer's input, by group."""
        for batch in self._batches([(-1, run) for run in runs]):
            groups = [*zip(*(below[run.layer] for _, run in batch), strict=True)]
            together = [torch.cat(hidden) if len(hidden) > 1 else hidden[0] for hidden in groups]
            self._submit(batch, together, [len(hidden[0]) for hidden in groups], batch[0][1].end, workers)

    def _submit(
        self,
        batch: Numbered,
        together: Sequence[Tensor],
        lengths: Sequence[int],
        above: int,
        workers: Workers,
    ) -> None:
        """Start a batch at layer `above`. `together`: its hidden states; `lengths`: sequences of each replacement, by group."""
        ascent = Ascent(above)
        self._start(batch, ascent, partial(self._measured, batch, together, lengths, ascent, above), workers)

    def _start(
        self, batch: Numbered, ascent: Ascent, work: Callable[[], list[Measured]], workers: Workers
    ) -> None:
        """Have a worker measure a batch; if all workers are busy, first store the oldest batch's results."""
        self._under_way.append(_UnderWay(batch, ascent, workers.submit(work)))
        if len(self._under_way) > workers.count:
            self._keep(self._under_way.popleft())

    def _wait_until_above(self, layer_idx: int) -> None:
        """Wait until all workers are above a layer, so that it may be changed."""
        for earlier in self._under_way:
            earlier.ascent.wait_until_above(layer_idx)

    def _batches(self, of_layer: Sequence[tuple[int, S]]) -> Iterator[Sequence[tuple[int, S]]]:
        """Yield batches of replacements of one layer (or runs that end there) that run together.

        A batch has several replacements only if the scored tokens are few. Its composition does not depend on what is cached:
        in another batch a metric would have other last digits. Wholly cached batches are skipped.
        """
        together = self._together()
        for start in range(0, len(of_layer), together):
            batch = of_layer[start : start + together]
            if all(figures_name(replacement) in self.cache.figures for _, replacement in batch):
                self.progress.advance(len(batch))
            else:
                yield batch

    def _together(self) -> int:
        groups = self.measure.groups
        return max(1, group_tokens(self.runner.device) // groups[0].numel()) if len(groups) == 1 else 1

    def _ask_for_arguments(
        self, todo: Sequence[Replacement], runs: Sequence[Run], entering: Sequence[Tensor]
    ) -> None:
        """Compute the layers' keyword arguments for all shapes in advance.

        `layer_kwargs` swaps the model's layers for recorders, so no worker may be running the model then.
        """
        ends = Counter(run.end for run in runs)
        counts = [*Counter(replacement.layer for replacement in todo).values(), *ends.values()]
        together = self._together()
        sizes = {size for count in counts for size in (min(count, together), count % together) if size}
        for hidden in entering:
            for size in sizes:
                self.runner.layer_kwargs(0, hidden.new_empty(size * len(hidden), *hidden.shape[1:]))

    def _replaced(
        self, batch: Sequence[tuple[int, Replacement]], entering: Sequence[Entering]
    ) -> list[Tensor]:
        """Return the replaced layer's output for all replacements of a batch, concatenated; one tensor for each group."""
        above: list[list[Tensor]] = []
        for _, replacement in batch:
            with replacement.applied(self.incumbent):
                above.append([self._layer(replacement, *group) for group in entering])
        return [torch.cat(hidden) if len(hidden) > 1 else hidden[0] for hidden in zip(*above, strict=True)]

    def _halves(self, layer_idx: int, hidden_BSH: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the stream after the layer's attention (None for a paged parent) and the layer's output, [B, S, H] each."""
        if self.runner.paged:
            return None, self.runner.run_layer(layer_idx, hidden_BSH)
        return self.runner.run_halves(layer_idx, hidden_BSH)

    def _layer(self, replacement: Replacement, hidden_BSH: Tensor, attended_BSH: Tensor | None) -> Tensor:
        """Run the replaced layer. If its attention is not replaced, start from the known stream after attention."""
        if attended_BSH is None or any(sub_block == "attention" for sub_block, _, _ in replacement.parts):
            return self.runner.run_layer(replacement.layer, hidden_BSH)
        return self.runner.run_ffn(replacement.layer, attended_BSH)

    def _measured(
        self, batch: Numbered, together: Sequence[Tensor], lengths: Sequence[int], ascent: Ascent, above: int
    ) -> list[Measured]:
        """Run a batch through the layers from `above` on and measure it; None for replacements that are cached already."""
        with ascent:
            for layer_idx in range(above, len(self.runner)):
                together = [self.runner.run_layer(layer_idx, hidden) for hidden in together]
                ascent.to(layer_idx + 1)
        normed = [self.runner.final_norm(hidden) for hidden in together]
        apart = [torch.split(hidden, length) for hidden, length in zip(normed, lengths, strict=True)]
        return [
            None if figures_name(replacement) in self.cache.figures else self.rows.of(self.measure, states)
            for (_, replacement), states in zip(batch, zip(*apart, strict=True), strict=True)
        ]

    def _keep(self, done: _UnderWay) -> None:
        for (row, replacement), measured in zip(done.batch, done.found.result(), strict=True):
            if measured is None:
                self.progress.advance()
                continue
            figures, states_PH, kl_P = measured
            if row >= 0:
                self.rows.put(row, states_PH, kl_P)  # before the entry, which implies that they are stored
            self.cache.add(figures_name(replacement), figures)
            named = f"{replacement.length} dropped" if isinstance(replacement, Run) else replacement.name
            self.progress.advance(layer=replacement.layer, alternative=named, score=figures[self.metric])

    def _keep_all(self) -> None:
        while self._under_way:
            self._keep(self._under_way.popleft())

    def _leaving(self, layer_idx: int, entering: Sequence[Tensor]) -> list[Tensor]:
        """Return the final hidden states after the last norm, from the input of a layer."""
        return [self.runner.final_norm(self.runner.run_suffix(layer_idx, hidden)) for hidden in entering]


def final_states(runner: LayerRunner, measure: Measure) -> list[Tensor]:
    """Return the final hidden states of the present model after the last norm, one [B, S, H] for each group of a measure."""
    entering = [runner.embed(tokens.to(runner.device)) for tokens in measure.groups]
    return [runner.final_norm(runner.run_suffix(0, hidden)) for hidden in entering]


def figures_name(replacement: Scored) -> Name:
    """Return the name under which a replacement's metrics are cached."""
    return replacement.layer, replacement.table, replacement.name
