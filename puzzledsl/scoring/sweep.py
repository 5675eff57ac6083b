"""One pass of a model up its layers; each replacement branches off at its own, and runs the layers above it only.

A run of dropped layers branches off below its first layer and goes on above its last.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.modeling.layerwise import LayerRunner
from puzzledsl.progress import Progress
from puzzledsl.scoring.incumbent import Incumbent
from puzzledsl.scoring.influence import Sums, counted, observed_pass
from puzzledsl.scoring.measures import Divergence, Figures, Measure, group_tokens
from puzzledsl.scoring.partial import Name, Partial
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.states import States
from puzzledsl.scoring.table import INCUMBENT
from puzzledsl.scoring.workers import Ascent, Workers

Entering = tuple[Tensor, Tensor | None]
"""Of a group of sequences: what enters a layer, and what its FFN then reads, before its norm. Both [B, S, H]. Not kept of a paged
parent, none of whose weights can be used outside its layers."""
Scored = Replacement | Run
Numbered = Sequence[tuple[int, Scored]]
"""Replacements or runs, each with its row in what is kept of final states (nothing is kept of runs)."""
S = TypeVar("S", Replacement, Run)
Measured = tuple[Figures, Tensor, Tensor] | None
"""Figures, final states for pairwise terms, and KLs of positions; None for what was measured before."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What is kept of every replacement besides its figures, where a score needs it."""

    states: States | None = None
    """Normed final hidden states of the positions that pairwise terms are means over."""
    kls: States | None = None
    """The KL of every scored position."""

    def put(self, row: int, states_PH: Tensor, kl_P: Tensor) -> None:
        """Write a replacement's; on return it is on the disk."""
        if self.states is not None:
            self.states.put(row, states_PH)
        if self.kls is not None:
            self.kls.put(row, kl_P)

    def of(self, measure: Measure, normed: Sequence[Tensor]) -> tuple[Figures, Tensor, Tensor]:
        """A replacement's figures, and what is kept besides; empty where it is not."""
        if self.kls is None:
            return measure.figures(normed), self.positions(normed), torch.empty(0)
        assert isinstance(measure, Divergence)
        figures, kl_P = measure.measured(normed)
        return figures, self.positions(normed), kl_P

    def positions(self, normed: Sequence[Tensor]) -> Tensor:
        """The positions that pairwise terms are means over, [P, H]."""
        if self.states is None:
            return torch.empty(0)
        return torch.cat([group.flatten(0, 1) for group in normed])[: self.states.positions]


@dataclass(frozen=True)
class _UnderWay:
    """A batch that workers have in hand."""

    batch: Numbered
    ascent: Ascent
    found: Future[list[Measured]]


class Sweep:
    """One pass up the layers; each replacement branches off at its own."""

    def __init__(
        self,
        runner: LayerRunner,
        measure: Measure,
        metric: str,
        partial: Partial,
        progress: Progress,
        incumbent: Incumbent,
        rows: Rows,
        behind: Sequence[Tensor] = (),
    ) -> None:
        """`behind`: groups of tokens [B, S] that are not scored, and count where layers' influences are measured."""
        self.runner, self.measure, self.metric, self.partial = runner, measure, metric, partial
        self.progress, self.incumbent, self.rows = progress, incumbent, rows
        self.behind = behind
        self.parent_PH = torch.empty(0)
        self.influence: Sequence[Sums] = ()
        self._under_way: deque[_UnderWay] = deque()

    def run(
        self, todo: Sequence[Replacement], around: ModelDefinition | None, runs: Sequence[Run] = ()
    ) -> None:
        """Measure what is not measured yet: the child itself first, where there is one."""
        with Workers(self.runner.device, shared=not self.runner.paged) as workers:
            entering = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.measure.groups]
            normed = self._parent(entering, workers)
            self.measure.set_parent(normed)
            self.parent_PH = self.rows.positions(normed)
            if around is not None:
                self.incumbent.become(around)
                if INCUMBENT not in self.partial.figures:
                    self.partial.add(INCUMBENT, self.measure.figures(self._leaving(0, entering)))
            with self.runner.packed():
                self._ask_for_arguments(todo, runs, entering)
                self._up_the_layers(todo, runs, entering, workers)
        self.partial.mend(
            [*([] if around is None else [INCUMBENT]), *map(figures_name, todo), *map(figures_name, runs)]
        )

    def _up_the_layers(
        self, todo: Sequence[Replacement], runs: Sequence[Run], entering: list[Tensor], workers: Workers
    ) -> None:
        longest = max((run.length for run in runs), default=0)
        below: dict[int, list[Tensor]] = {}  # what entered the last layers, where runs may begin
        for layer_idx in range(len(self.runner)):
            self._wait_until_above(layer_idx)  # what passes through the layer is observed
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
        """The parent's own normed final hidden states, and on the way how much its layers change its stream: a group a worker."""
        more = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.behind]
        is_text = [
            *self.measure.is_text,
            *(torch.ones_like(tokens, dtype=torch.bool) for tokens in self.behind),
        ]
        pairs = zip([*entering, *more], counted(is_text), strict=True)
        found = [workers.submit(partial(observed_pass, self.runner, *pair)) for pair in pairs]
        groups = [group.result() for group in found]
        self.influence = [sums for _, sums in groups]
        return [self.runner.final_norm(hidden) for hidden, _ in groups[: len(entering)]]

    def _measure(
        self, of_layer: Sequence[tuple[int, Replacement]], entering: Sequence[Entering], workers: Workers
    ) -> None:
        """All replacements of one layer. The layer is changed here only, when all workers are in those above it."""
        for batch in self._batches(of_layer):
            layer_idx = batch[0][1].layer
            self._wait_until_above(layer_idx)
            together = self._replaced(batch, entering)
            self._submit(batch, together, [len(hidden) for hidden, _ in entering], layer_idx + 1, workers)

    def _measure_runs(
        self, runs: Sequence[Run], below: Mapping[int, Sequence[Tensor]], workers: Workers
    ) -> None:
        """All runs that end below one layer; `below[layer]`: what entered a layer."""
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
        """Have a batch run the layers from `above` on; keep what is done."""
        ascent = Ascent(above)
        self._start(batch, ascent, partial(self._measured, batch, together, lengths, ascent, above), workers)

    def _start(
        self, batch: Numbered, ascent: Ascent, work: Callable[[], list[Measured]], workers: Workers
    ) -> None:
        """Have a worker measure a batch; keep what is done."""
        self._under_way.append(_UnderWay(batch, ascent, workers.submit(work)))
        if len(self._under_way) > workers.count:
            self._keep(self._under_way.popleft())

    def _wait_until_above(self, layer_idx: int) -> None:
        """Until no worker needs the layer as it is."""
        for earlier in self._under_way:
            earlier.ascent.wait_until_above(layer_idx)

    def _batches(self, of_layer: Sequence[tuple[int, S]]) -> Iterator[Sequence[tuple[int, S]]]:
        """Replacements of one layer, or runs that end there, that go up together: several where all that is scored is few tokens.

        They do not depend on what is measured already: in other company a figure would have other last digits.
        """
        together = self._together()
        for start in range(0, len(of_layer), together):
            batch = of_layer[start : start + together]
            if all(figures_name(replacement) in self.partial.figures for _, replacement in batch):
                self.progress.advance(len(batch))
            else:
                yield batch

    def _together(self) -> int:
        groups = self.measure.groups
        return max(1, group_tokens(self.runner.device) // groups[0].numel()) if len(groups) == 1 else 1

    def _ask_for_arguments(
        self, todo: Sequence[Replacement], runs: Sequence[Run], entering: Sequence[Tensor]
    ) -> None:
        """Of layers, for every shape that comes: the model is changed while it is asked, so no worker may run it then."""
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
        """What leaves the replaced layer, of all replacements of a batch one behind the other; one tensor a group."""
        above: list[list[Tensor]] = []
        for _, replacement in batch:
            with replacement.applied(self.incumbent):
                above.append([self._layer(replacement, *group) for group in entering])
        return [torch.cat(hidden) if len(hidden) > 1 else hidden[0] for hidden in zip(*above, strict=True)]

    def _halves(self, layer_idx: int, hidden_BSH: Tensor) -> tuple[Tensor | None, Tensor]:
        """What the layer's FFN reads, and what leaves the layer."""
        if self.runner.paged:
            return None, self.runner.run_layer(layer_idx, hidden_BSH)
        return self.runner.run_halves(layer_idx, hidden_BSH)

    def _layer(self, replacement: Replacement, hidden_BSH: Tensor, attended_BSH: Tensor | None) -> Tensor:
        """The replaced layer. Where its attention is as it was, so is what its FFN reads."""
        if attended_BSH is None or any(sub_block == "attention" for sub_block, _, _ in replacement.parts):
            return self.runner.run_layer(replacement.layer, hidden_BSH)
        return self.runner.run_ffn(replacement.layer, attended_BSH)

    def _measured(
        self, batch: Numbered, together: Sequence[Tensor], lengths: Sequence[int], ascent: Ascent, above: int
    ) -> list[Measured]:
        """Through the layers from `above` on and the head. Nothing is measured twice: an empty place for what is."""
        with ascent:
            for layer_idx in range(above, len(self.runner)):
                together = [self.runner.run_layer(layer_idx, hidden) for hidden in together]
                ascent.to(layer_idx + 1)
        normed = [self.runner.final_norm(hidden) for hidden in together]
        apart = [torch.split(hidden, length) for hidden, length in zip(normed, lengths, strict=True)]
        return [
            None if figures_name(replacement) in self.partial.figures else self.rows.of(self.measure, states)
            for (_, replacement), states in zip(batch, zip(*apart, strict=True), strict=True)
        ]

    def _keep(self, done: _UnderWay) -> None:
        for (row, replacement), measured in zip(done.batch, done.found.result(), strict=True):
            if measured is None:
                self.progress.advance()
                continue
            figures, states_PH, kl_P = measured
            if row >= 0:
                self.rows.put(row, states_PH, kl_P)  # on the disk before the figures that vouch for it
            self.partial.add(figures_name(replacement), figures)
            named = f"{replacement.length} dropped" if isinstance(replacement, Run) else replacement.name
            self.progress.advance(layer=replacement.layer, alternative=named, score=figures[self.metric])

    def _keep_all(self) -> None:
        while self._under_way:
            self._keep(self._under_way.popleft())

    def _leaving(self, layer_idx: int, entering: Sequence[Tensor]) -> list[Tensor]:
        """The normed final hidden states, from those that enter a layer."""
        return [self.runner.final_norm(self.runner.run_suffix(layer_idx, hidden)) for hidden in entering]


def final_states(runner: LayerRunner, measure: Measure) -> list[Tensor]:
    """The normed final hidden states of the model as it stands, a group each."""
    entering = [runner.embed(tokens.to(runner.device)) for tokens in measure.groups]
    return [runner.final_norm(runner.run_suffix(0, hidden)) for hidden in entering]


def figures_name(replacement: Scored) -> Name:
    """The name that figures are kept under."""
    return replacement.layer, replacement.table, replacement.name
