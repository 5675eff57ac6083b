"""Replace-1-block scores after healing: the loss is measured after the layer above the replacement is fitted to its new input.

Children are healed before use (`puzzledsl.child.healing`), so the loss that counts is the one that healing cannot undo. The
first layer above a change undoes nearly all that can be undone; fitting further layers changes scores little and costs one
fit per layer. So each child with a single replacement is healed up to the layer above it: the last maps of sub-blocks
that read a changed stream, or whose next sub-block is dropped, are refitted. A piece that still connects the points
that it was trained for is not refitted. Layers further up run unchanged.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.healing.children import HealingGroups, Points
from puzzledsl.child.healing.layer import Absent, Link, chain, first_changed, point_of, points
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.models.families.access import absent
from puzzledsl.models.machine import Ascent, Workers
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.sweep.sweep import Flight, Measured, Scored, Sweep, Unit, single_units

METHOD = "1"
"""Version of the method, part of the cache's key. Increase it when a change of the code changes losses."""


def points_at_a_time(runs: Sequence[Run]) -> int:
    """Return an upper bound n on the streams alive at once. Each may take 1 / n of the free memory; larger ones go to a file."""
    return 2 * max((run.length for run in runs), default=1) + 14


def needed_from(layer: int, layers: int, without: Absent) -> int:
    """Return the first point of the parent's stream that children need which differ from it in this layer or further up.

    It is that of the sub-block in front of the layer: if the layer is dropped, that sub-block has another goal.
    """
    before = [point for point in points(layers, without) if point < point_of(layer, "attention")]
    return before[-1] if before else 0


@dataclass(frozen=True)
class HealedReplacement:
    """A child with a single replacement or run, and its sub-blocks up to the last layer that is healed."""

    layers: Sequence[LayerDefinition]
    behind: int
    """Index of the last healed layer."""
    without: Absent
    """The sub-blocks that the parent does not have."""
    changed: Sequence[Link] = field(init=False)
    """The sub-blocks from the first changed one to the last healed layer."""
    start: int = field(init=False)
    """The point (`child.healing.chain`) up to which the child's stream equals the parent's."""

    def __post_init__(self) -> None:
        """Compute `start` and `changed`."""
        links, of_parent = chain(self.layers, self.without), points(len(self.layers), self.without)
        first = first_changed(links, of_parent)
        object.__setattr__(self, "start", of_parent[first])
        object.__setattr__(self, "changed", [k for k in links[first:] if k.layer_idx <= self.behind])

    @classmethod
    def of(cls, scored: Scored, layers: int, without: Absent) -> HealedReplacement:
        """Make the child of a replacement or run in a parent with `layers` layers, which lack some sub-blocks."""
        child = [LayerDefinition(attention=ParentAttention(), ffn=ParentFfn())] * layers
        match scored:
            case Run():
                dropped = LayerDefinition(attention=NoOpAttention(), ffn=NoOpFfn())
                child[scored.layer : scored.end] = [dropped] * scored.length
                behind = scored.end
            case Replacement():
                child[scored.layer] = _layer(scored)
                behind = scored.layer + 1
        return cls(child, min(behind, layers - 1), without)

    def is_fitted(self, link: Link) -> bool:
        """False for a piece that reads the parent's stream and leads to the next point, as it was trained to."""
        return link.point != self.start or not link.adjacent


def _layer(replacement: Replacement) -> LayerDefinition:
    chosen: dict[str, Alternative | str | None] = {"attention": ParentAttention(), "ffn": ParentFfn()}
    for sub_block, alternative, piece in replacement.parts:
        chosen |= {sub_block: alternative, f"{sub_block}_piece": piece}
    return LayerDefinition.model_validate(chosen)


class HealedSweep(Sweep):
    """A sweep that heals each replacement or run before measuring it. The parent is never changed."""

    def __init__(self, groups: Callable[[], HealingGroups], *given: Any, **named: Any) -> None:
        """`groups`: maker of groups whose measured part are the scored tokens. `given`: the arguments of `Sweep`."""
        super().__init__(*given, **named)
        self._make, self._without = groups, absent(self.model)
        self._healing: HealingGroups | None = None
        self._lowest = 0
        """The lowest point of the parent's stream that is still kept."""

    def units(self, todo: Sequence[Replacement], runs: Sequence[Run]) -> list[Unit]:
        """Return replacements and runs one at a time, by ascending first layer."""
        return single_units(todo, runs)

    def _measuring(self, found: Sequence[Unit], workers: Workers) -> Iterator[tuple[Unit, list[Measured]]]:
        """Measure units one group of tokens at a time, in shapes for which the layers' arguments are known already."""
        return self._flown(found, workers)

    def _flight(self, unit: Unit) -> Flight:
        ((_, scored),) = unit
        healed = HealedReplacement.of(scored, len(self.runner), self._without)
        points, ascent = self._points(healed, below=scored.layer), self._ascent(0)
        return Flight(unit, ascent, partial(self._healed, healed, points, ascent))

    @property
    def _groups(self) -> HealingGroups:
        if self._healing is None:
            self._healing, self._lowest = self._make(), 0
        return self._healing

    def _points(self, healed: HealedReplacement, *, below: int) -> Points:
        """Return the parent's streams that a child needs, without workers running its layers; drop those below `below`."""
        wanted = {healed.start, *(p for link in healed.changed for p in (link.point, link.goal))}
        top, lowest = max(wanted), needed_from(below, len(self.runner), self._without)
        if lowest < self._lowest:  # a worker gets lower layers again when another worker is lost
            self._healing = None
        if not self._groups.parent.reaches(top):
            self._wait_until_above((top - 1) // 2)
        self._groups.parent.drop_below(lowest)
        self._lowest = lowest
        return {point: self._groups.parent.at(point) for point in sorted(wanted)}

    def _healed(self, healed: HealedReplacement, points: Points, ascent: Ascent) -> list[Measured]:
        """Heal the child up to `healed.behind`, run the layers above and the final norm, and measure it."""
        healing = self._groups
        stream: Sequence[Tensor] = list(points[healed.start])
        for link in healed.changed:
            stream = healing.past(link, stream, points, fit=healed.is_fitted(link))
        hidden = healing.measured(stream)
        for layer_idx in range(healed.behind + 1, len(self.runner)):
            ascent.to(layer_idx)
            hidden = [self.runner.run_layer(layer_idx, group) for group in hidden]
        ascent.to(math.inf)
        return [self._figures(self._normed(hidden))]
