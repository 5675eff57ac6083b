"""One pass of a model up its layers; each replacement branches off at its own, and runs the layers above it only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.modeling.layerwise import LayerRunner
from puzzledsl.progress import Progress
from puzzledsl.scoring.incumbent import Incumbent
from puzzledsl.scoring.measures import Measure, group_tokens
from puzzledsl.scoring.partial import Name, Partial
from puzzledsl.scoring.replacements import Replacement
from puzzledsl.scoring.states import States
from puzzledsl.scoring.table import INCUMBENT


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
        states: States | None,
    ) -> None:
        self.runner, self.measure, self.metric, self.partial = runner, measure, metric, partial
        self.progress, self.incumbent, self.states = progress, incumbent, states
        self.parent_PH = torch.empty(0)

    def run(self, todo: Sequence[Replacement], around: ModelDefinition | None) -> None:
        """Measure what is not measured yet: the child itself first, where there is one."""
        entering = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.measure.groups]
        normed = self._leaving(0, entering)
        self.measure.set_parent(normed)
        self.parent_PH = _positions(normed, self.states)
        if around is not None:
            self.incumbent.become(around)
            if INCUMBENT not in self.partial.figures:
                self.partial.add(INCUMBENT, self.measure.figures(self._leaving(0, entering)))
        numbered = list(enumerate(todo))
        for layer_idx in range(len(self.runner)):
            for batch in self._batches([(row, r) for row, r in numbered if r.layer == layer_idx]):
                self._measure(batch, entering)
            entering = [self.runner.run_layer(layer_idx, hidden) for hidden in entering]

    def _batches(self, of_layer: Sequence[Numbered]) -> Iterator[Sequence[Numbered]]:
        """Replacements of one layer that go up together: several where all that is scored is few tokens.

        They do not depend on what is measured already: in other company a figure would have other last digits.
        """
        groups = self.measure.groups
        together = max(1, group_tokens(self.runner.device) // groups[0].numel()) if len(groups) == 1 else 1
        for start in range(0, len(of_layer), together):
            batch = of_layer[start : start + together]
            if all(_name(replacement) in self.partial.figures for _, replacement in batch):
                self.progress.advance(len(batch))
            else:
                yield batch

    def _measure(self, batch: Sequence[Numbered], entering: Sequence[Tensor]) -> None:
        layer_idx = batch[0][1].layer
        above: list[list[Tensor]] = []  # of every replacement, what leaves its layer
        for _, replacement in batch:
            with replacement.applied(self.incumbent):
                above.append([self.runner.run_layer(layer_idx, hidden) for hidden in entering])
        together = [torch.cat(hidden) for hidden in zip(*above, strict=True)]
        normed = self._leaving(layer_idx + 1, together)
        apart = [torch.split(hidden, len(own)) for hidden, own in zip(normed, entering, strict=True)]
        for (row, replacement), states in zip(batch, zip(*apart, strict=True), strict=True):
            if _name(replacement) in self.partial.figures:
                self.progress.advance()
                continue
            if self.states is not None:  # on the disk before the figures that vouch for it
                self.states.put(row, _positions(states, self.states))
            self.partial.add(_name(replacement), figures := self.measure.figures(states))
            score = figures[self.metric]
            self.progress.advance(layer=layer_idx, alternative=replacement.name, score=score)

    def _leaving(self, layer_idx: int, entering: Sequence[Tensor]) -> list[Tensor]:
        """The normed final hidden states, from those that enter a layer."""
        return [self.runner.final_norm(self.runner.run_suffix(layer_idx, hidden)) for hidden in entering]


def final_states(runner: LayerRunner, measure: Measure) -> list[Tensor]:
    """The normed final hidden states of the model as it stands, a group each."""
    entering = [runner.embed(tokens.to(runner.device)) for tokens in measure.groups]
    return [runner.final_norm(runner.run_suffix(0, hidden)) for hidden in entering]


Numbered = tuple[int, Replacement]
"""A replacement and its row in what is kept of final states."""


def _name(replacement: Replacement) -> Name:
    return replacement.layer, replacement.table, replacement.name


def _positions(normed: Sequence[Tensor], states: States | None) -> Tensor:
    """The positions that pairwise terms are means over, [P, H]."""
    if states is None:
        return torch.empty(0)
    return torch.cat([group.flatten(0, 1) for group in normed])[: states.positions]
