"""Measure all replacements in one pass up a model: each branches off at its own layer and runs only the layers above it.

A run of dropped layers takes the input of its first layer and continues at the layer after its last. Without healing,
replacements of one layer are one unit if the scored tokens are few, as are runs that end below one layer, whatever is cached. If
weights are read layer by layer, all units that have branched off then pass a layer together, right when the parent's own stream
does; if their hidden states exceed a share of memory, they are brought to the top first. With healing, a unit has one member.

Scores after healing are losses after the layer above the replacement is fitted to its new input. Children are healed before use
(`puzzledsl.child.healing`), so the loss that counts is the one that healing cannot undo. The first layer above a change undoes
nearly all that can be undone; fitting further layers changes scores little and costs one fit per layer. So each child with a
single replacement is healed up to the layer above it: the last maps of sub-blocks that read a changed stream, or whose next
sub-block is dropped, are refitted. A piece that still connects the points that it was trained for is not refitted. Layers further
up run unchanged.

Shapes: B sequences, S positions, H hidden. A group is a batch of scored sequences, [B, S].
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.healing.layer import Absent, Link, chain, first_changed, point_of, points
from puzzledsl.child.healing.walk import HealingGroups, Points
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.models.families.access import absent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import Workers, room_bytes
from puzzledsl.pieces.store.library import Library
from puzzledsl.plan.memory.stage_plan import tiles
from puzzledsl.scoring.measures import Figures, Measure
from puzzledsl.scoring.replacements import Replacement, Run

Entering = tuple[Tensor, Tensor | None]
"""(input of a layer, stream after its attention) of a group, [B, S, H] each. The second is None for a paged parent, whose FFN
cannot run alone."""


class Climb:
    """The parent's streams at the highest layer reached and at the `longest` layers below it, where dropped runs begin."""

    def __init__(self, runner: LayerRunner, entering: Sequence[Tensor], *, longest: int = 0) -> None:
        """Start with the streams that enter layer 0."""
        self._runner, self._bottom, self._longest = runner, list(entering), longest
        self._streams: dict[int, Sequence[Tensor]] = {0: self._bottom}
        self._attended: tuple[int, Sequence[Tensor | None]] = -1, ()

    def entering(self, layer_idx: int) -> Sequence[Tensor]:
        """Return the input of a layer, [B, S, H] for each group."""
        if layer_idx not in self._streams and layer_idx < max(self._streams):
            self._streams = {0: self._bottom}  # a worker gets lower layers again when another worker is lost
        while layer_idx not in self._streams:
            self._rise()
        return self._streams[layer_idx]

    def groups(self, layer_idx: int) -> Sequence[Entering]:
        """Return the input of a layer and the stream after its attention, for each group."""
        entering = self.entering(layer_idx)
        if self._attended[0] != layer_idx:
            run = self._runner
            attended = [None if run.paged else run.run_attention(layer_idx, hidden) for hidden in entering]
            self._attended = layer_idx, attended
        return list(zip(entering, self._attended[1], strict=True))

    def _rise(self) -> None:
        """Run the highest layer whose input is known, and drop the lowest stream."""
        top, run = max(self._streams), self._runner
        self._streams[top + 1] = [
            run.run_layer(top, hidden) if attended is None else run.run_ffn(top, attended)
            for hidden, attended in self.groups(top)
        ]
        self._streams.pop(top - self._longest, None)


Scored = Replacement | Run
Unit = tuple[Scored, ...]
"""Replacements, or runs, that are measured together."""


def enters(scored: Scored) -> int:
    """Return the index of the first layer above what is replaced or dropped."""
    return scored.end if isinstance(scored, Run) else scored.layer + 1


WAVE_SHARE = 1 / 4
"""Share of the free memory of the device that the hidden states of a wave may take."""
Wave = tuple[Unit, Sequence[Tensor]]
"""A unit that has branched off, and its hidden states in each group. A wave is a list of these at one layer."""

Flight = tuple[Unit, list[Any]]
"""A unit to measure in some thread, and a list of the streams that it starts from, which the thread empties."""


class Sweep:
    """One pass up the layers of a model, from which every replacement branches off. `open` comes before `measuring`."""

    def __init__(
        self, runner: LayerRunner, measure: Measure, model: PreTrainedModel, library: Library
    ) -> None:
        """Prepare a sweep of a model's layers, with pieces from a library."""
        self.runner, self.measure, self.model, self._library = runner, measure, model, library
        self._climb = Climb(runner, ())

    def units(self, todo: Sequence[Replacement], runs: Sequence[Run]) -> list[Unit]:
        """Return what is measured together, in the order of layers; at a layer, the runs that end below it come first."""
        groups, at_once = self.measure.groups, tiles(self.runner.device.type).group_tokens
        together = max(1, at_once // groups[0].numel()) if len(groups) == 1 else 1
        found: list[Unit] = []
        for layer_idx in range(len(self.runner) + 1):
            ended: list[Scored] = [run for run in runs if run.end == layer_idx]
            here: list[Scored] = [each for each in todo if each.layer == layer_idx]
            for part in (ended, here):
                found += (tuple(part[start : start + together]) for start in range(0, len(part), together))
        return found

    def open(self, runs: Sequence[Run], workers: Workers) -> None:
        """Run the parent: group by group, or all of them at once where it is paged."""
        entering = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.measure.groups]
        parts = [entering] if self.runner.paged else [[group] for group in entering]
        passed = [workers.submit(partial(leaving, self.runner, part)) for part in parts]
        self.measure.set_parent([hidden for part in passed for hidden in part.result()])
        longest = max((run.length for run in runs), default=0)
        self._climb = Climb(self.runner, entering, longest=longest)

    def measuring(self, found: Sequence[Unit], workers: Workers) -> Iterator[tuple[Unit, list[Figures]]]:
        """Yield each unit with the metrics of its members. Several units are measured at once."""
        if self.runner.paged:  # units pass a layer together, because its weights come and go
            yield from ((unit, self._arrived(unit, stream)) for unit, stream in self._in_waves(found))
            return
        # before workers run, as asking for arguments swaps layers for recorders
        for hidden in self._climb.entering(0):
            for size in {len(unit) for unit in found}:
                self.runner.layer_kwargs(0, hidden.new_empty(size * len(hidden), *hidden.shape[1:]))
        yield from self._flights(found, workers)

    def _flights(self, found: Sequence[Unit], workers: Workers) -> Iterator[tuple[Unit, list[Figures]]]:
        flights = ((unit, [self._streams(unit)]) for unit in found)
        for (unit, _), measured in workers.each(self._flown, flights):
            yield unit, measured

    def _flown(self, flight: Flight) -> list[Figures]:
        """Measure a unit, in any thread."""
        unit, streams = flight
        above = self._started(unit, streams.pop())
        return self._arrived(unit, self.runner.passed(above, enters(unit[0])))

    def _in_waves(self, found: Sequence[Unit]) -> Iterator[Wave]:
        """Yield units with their states above the last layer: all of a wave pass a layer while its weights are in memory."""
        of_layer: dict[int, list[Unit]] = {}
        for unit in found:
            of_layer.setdefault(enters(unit[0]), []).append(unit)
        room, wave = _room_bytes(self.runner.device), list[Wave]()
        for layer_idx in range(len(self.runner) + 1):
            if not wave and all(entered < layer_idx for entered in of_layer):
                return
            if layer_idx:
                self._climb.entering(layer_idx - 1)
                wave = [(unit, self.runner.passed(on, layer_idx - 1, layer_idx)) for unit, on in wave]
            for unit in of_layer.get(layer_idx, ()):
                wave.append((unit, self._started(unit, self._streams(unit))))
                if sum(hidden.nbytes for _, on in wave for hidden in on) > room:
                    for above in range(layer_idx, len(self.runner)):
                        wave = [(unit, self.runner.passed(on, above, above + 1)) for unit, on in wave]
                    yield from wave
                    wave = []
        yield from wave

    def _streams(self, unit: Unit) -> Any:
        """Return the parent's streams that a unit starts from. Runs the parent, so only the sweep's own thread calls it."""
        if isinstance(unit[0], Run):
            return [self._climb.entering(run.layer) for run in unit]
        return self._climb.groups(unit[0].layer)

    def _started(self, unit: Unit, streams: Any) -> Sequence[Tensor]:
        """Return a unit's hidden states above what is replaced, one tensor for each group."""
        if isinstance(unit[0], Run):
            return joined(streams)
        return joined([self._replaced(each, streams) for each in unit if isinstance(each, Replacement)])

    def _replaced(self, replacement: Replacement, groups: Sequence[Entering]) -> list[Tensor]:
        """Run the replaced layer. If its attention is not replaced, start from the known stream after attention."""
        layer, run = replacement.layer_of(self.model, self._library), self.runner
        if run.paged or any(part.sub_block == "attention" for part in replacement.parts):
            return [run.run_layer(replacement.layer, hidden, layer) for hidden, _ in groups]
        known = (attended for _, attended in groups if attended is not None)
        return [run.run_ffn(replacement.layer, attended, layer) for attended in known]

    def _arrived(self, unit: Unit, together: Sequence[Tensor]) -> list[Figures]:
        """Return the metrics of each member of a unit, from their joined hidden states above the last layer."""
        apart = [torch.split(hidden, len(hidden) // len(unit)) for hidden in self._normed(together)]
        return [self.measure.figures(states) for states in zip(*apart, strict=True)]

    def _normed(self, stream: Sequence[Tensor]) -> list[Tensor]:
        return [self.runner.final_norm(hidden) for hidden in stream]


def _room_bytes(device: torch.device) -> int:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else room_bytes()
    return int(WAVE_SHARE * free)


def joined(streams: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Concatenate the streams of several replacements, group by group."""
    return [torch.cat(group) if len(group) > 1 else group[0] for group in zip(*streams, strict=True)]


def leaving(runner: LayerRunner, stream: Sequence[Tensor]) -> list[Tensor]:
    """Return the final hidden states after the last norm, from those that enter layer 0. All groups pass a layer together."""
    return [runner.final_norm(hidden) for hidden in runner.passed(stream)]


METHOD = "1"
"""Version of the method, part of the cache's key. Increase it when a change of the code changes losses."""


def points_at_a_time(runs: Sequence[Run]) -> int:
    """Return an upper bound n on the streams alive at once. Each may take 1 / n of the free memory; larger ones go to a file."""
    return 2 * max((run.length for run in runs), default=1) + 14


@dataclass(frozen=True)
class HealedReplacement:
    """A child with a single replacement or run: its changed sub-blocks up to the last layer that is healed.

    `behind`: index of that layer. `start`: the point (`child.healing.layer`) up to which the child's stream equals the parent's.
    """

    behind: int
    start: int
    changed: Sequence[Link]

    @classmethod
    def of(cls, scored: Scored, layers: int, without: Absent) -> Self:
        """Make the child of a replacement or run in a parent with `layers` layers, which lack the sub-blocks `without`."""
        child = [LayerDefinition(attention=ParentAttention(), ffn=ParentFfn())] * layers
        match scored:
            case Run():
                dropped = LayerDefinition(attention=NoOpAttention(), ffn=NoOpFfn())
                child[scored.layer : scored.end] = [dropped] * scored.length
            case Replacement():
                child[scored.layer] = scored.definition
        behind = min(enters(scored), layers - 1)
        links, of_parent = chain(child, without), points(layers, without)
        first = first_changed(links, of_parent)
        return cls(behind, of_parent[first], [link for link in links[first:] if link.layer_idx <= behind])


class HealedSweep(Sweep):
    """A sweep that heals each replacement or run before measuring it. The parent is never changed."""

    def __init__(self, groups: Callable[[], HealingGroups], *given: Any) -> None:
        """`groups`: maker of groups whose measured part are the scored tokens. `given`: the arguments of `Sweep`."""
        super().__init__(*given)
        self._make, self._without = groups, absent(self.model)
        self._healing: HealingGroups | None = None
        self._lowest = 0
        """The lowest point of the parent's stream that is still kept."""

    def units(self, todo: Sequence[Replacement], runs: Sequence[Run]) -> list[Unit]:
        """Return replacements and runs one at a time, by ascending first layer."""
        replaced: list[Scored] = [*todo, *runs]
        return [(scored,) for scored in sorted(replaced, key=lambda each: each.layer)]

    def measuring(self, found: Sequence[Unit], workers: Workers) -> Iterator[tuple[Unit, list[Figures]]]:
        """As `Sweep.measuring`. Units have one member each, so layers' arguments are known already for all shapes."""
        return self._flights(found, workers)

    def _streams(self, unit: Unit) -> tuple[HealedReplacement, Points]:
        (scored,) = unit
        healed = HealedReplacement.of(scored, len(self.runner), self._without)
        return healed, self._points(healed, below=scored.layer)

    @property
    def _groups(self) -> HealingGroups:
        if self._healing is None:
            self._healing, self._lowest = self._make(), 0
        return self._healing

    def _points(self, healed: HealedReplacement, *, below: int) -> Points:
        """Return the parent's streams that a child needs, by point; drop those that no replacement at `below` or above needs."""
        wanted = {healed.start, *(p for link in healed.changed for p in (link.point, link.goal))}
        # further children need the sub-block in front of the layer: if that is dropped, it has another goal
        of_parent = points(len(self.runner), self._without)
        lowest = max((point for point in of_parent if point < point_of(below, "attention")), default=0)
        if lowest < self._lowest:  # a worker gets lower layers again when another worker is lost
            self._healing = None
        self._groups.parent.at(max(wanted))
        self._groups.parent.drop_below(lowest)
        self._lowest = lowest
        return {point: self._groups.parent.at(point) for point in sorted(wanted)}

    def _flown(self, flight: Flight) -> list[Figures]:
        """Heal the child up to `healed.behind`, run the layers above and the final norm, and measure it."""
        healing, (healed, points) = self._groups, flight[1].pop()
        stream: Sequence[Tensor] = list(points[healed.start])
        for link in healed.changed:
            # a piece that leads from the parent's stream to the next point was trained to
            fit = link.point != healed.start or not link.adjacent
            stream = list(healing.past(healing.sub_block(link), stream, points, fit=fit))
        above = self.runner.passed(healing.measured(stream), healed.behind + 1)
        return [self.measure.figures(self._normed(above))]
