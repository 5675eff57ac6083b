"""Replace-1-block scores after healing: the loss is measured after the layer above the replacement is fitted to its new input.

Children are healed before use (`puzzledsl.child.healing`), so the loss that counts is the one that healing cannot undo. The
first layer above a change undoes nearly all that can be undone; fitting further layers changes scores little and costs one
fit per layer. So each child with a single replacement is healed up to the layer above it: the last maps of sub-blocks
that read a changed stream, or whose next sub-block is dropped, are refitted. A piece that still connects the points
that it was trained for is not refitted. Layers further up run unchanged.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.healing.chain import Absent, Link, chain, first_changed, point_of, points
from puzzledsl.child.healing.groups import HealingGroups, Points
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.models.families.access import absent
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.sweep import Measured, Scored, Sweep, figures_name
from puzzledsl.scoring.workers import Ascent, Workers

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

    def __init__(self, healing: HealingGroups, *given: Any) -> None:
        """`healing`: groups whose measured part are the scored tokens. `given`: the arguments of `Sweep`."""
        super().__init__(*given)
        self.healing, self._without = healing, absent(self.incumbent.model)

    def _ask_for_arguments(
        self, todo: Sequence[Replacement], runs: Sequence[Run], entering: Sequence[Tensor]
    ) -> None:
        """Do nothing: groups run one at a time, in shapes for which the layers' arguments are known already."""

    def _up_the_layers(
        self, todo: Sequence[Replacement], runs: Sequence[Run], entering: list[Tensor], workers: Workers
    ) -> None:
        """Measure replacements and runs one at a time, by ascending first layer."""
        replaced: list[Scored] = [*todo, *runs]
        for scored in sorted(replaced, key=lambda each: each.layer):
            if figures_name(scored) in self.cache.figures:
                self.progress.advance()
                continue
            healed = HealedReplacement.of(scored, len(self.runner), self._without)
            points = self._points(healed, below=scored.layer)
            ascent = Ascent(0)
            work = partial(self._healed, scored, healed, points, ascent)
            self._start([(-1, scored)], ascent, work, workers)
        self._keep_all()

    def _points(self, healed: HealedReplacement, *, below: int) -> Points:
        """Return the parent's streams that a child needs, and drop those that only children changed below `below` need.

        If the parent has to run further layers, first wait until no worker runs them: they are hooked meanwhile.
        """
        wanted = {healed.start, *(p for link in healed.changed for p in (link.point, link.goal))}
        top = max(wanted)
        if not self.healing.parent.reaches(top):
            self._wait_until_above((top - 1) // 2)
        self.healing.parent.drop_below(needed_from(below, len(self.runner), self._without))
        return {point: self.healing.parent.at(point) for point in sorted(wanted)}

    def _healed(
        self, scored: Scored, healed: HealedReplacement, points: Points, ascent: Ascent
    ) -> list[Measured]:
        """Heal the child up to `healed.behind`, run the layers above and the final norm, and measure it."""
        with ascent:
            stream: Sequence[Tensor] = list(points[healed.start])
            for link in healed.changed:
                stream = self.healing.past(link, stream, points, fit=healed.is_fitted(link))
            hidden = self.healing.measured(stream)
            for layer_idx in range(healed.behind + 1, len(self.runner)):
                ascent.to(layer_idx)
                hidden = [self.runner.run_layer(layer_idx, group) for group in hidden]
        return [self.rows.of(self.measure, [self.runner.final_norm(group) for group in hidden])]
