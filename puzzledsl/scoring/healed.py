"""Scores after healing: the layer behind each replacement is fitted to what it now reads, and only then is the loss measured.

Children are healed before anyone uses them (`puzzledsl.healing`), so what counts is the loss that healing cannot undo. Nearly all
that it can undo is undone by the first layer behind a change; fitting the others too changes scores little and costs a fit a
layer. A score is that of the child with this one replacement, healed up to the layer behind it: the last maps of what reads
a changed stream, and of what stands before a no-op and now leads to another point. A piece between the points it was made for
stays as it was made. Layers further up run as they are.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from puzzledsl.healing.chain import Link, chain, first_changed
from puzzledsl.healing.groups import HealingGroups, Points
from puzzledsl.ir.alternatives import Alternative, NoOpAttention, NoOpFfn, ParentAttention, ParentFfn
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.sweep import Measured, Scored, Sweep, figures_name
from puzzledsl.scoring.workers import Ascent, Workers

METHOD = "1"
"""Raised when figures become others, so that those measured before are not taken for them."""


def points_at_a_time(runs: Sequence[Run]) -> int:
    """More streams than are held at once: each may take this part of the free memory, and is in a file above it."""
    return 2 * max((run.length for run in runs), default=1) + 14


@dataclass(frozen=True)
class Healed:
    """A child with one replacement or run, and the layers of it that are healed."""

    layers: Sequence[LayerDefinition]
    behind: int
    """The last layer that is healed."""
    links: Sequence[Link] = field(init=False)
    start: int = field(init=False)
    """The point up to which the child is the parent."""

    def __post_init__(self) -> None:
        """Sub-blocks up to the last layer that is healed."""
        links = chain(self.layers)
        object.__setattr__(self, "start", first_changed(links))
        object.__setattr__(self, "links", [link for link in links if link.layer_idx <= self.behind])

    @classmethod
    def of(cls, scored: Scored, layers: int) -> Healed:
        """A replacement or run in a parent of so many layers."""
        child = [LayerDefinition(attention=ParentAttention(), ffn=ParentFfn())] * layers
        match scored:
            case Run():
                dropped = LayerDefinition(attention=NoOpAttention(), ffn=NoOpFfn())
                child[scored.layer : scored.end] = [dropped] * scored.length
                behind = scored.end
            case Replacement():
                child[scored.layer] = _layer(scored)
                behind = scored.layer + 1
        return cls(child, min(behind, layers - 1))

    @property
    def changed(self) -> Sequence[Link]:
        """Sub-blocks that do not read and leave the parent's stream where the parent's do."""
        return self.links[self.start :]

    def is_fitted(self, link: Link) -> bool:
        """False of a piece between the points it was made for."""
        return link.point != self.start or link.goal != link.point + 1


def _layer(replacement: Replacement) -> LayerDefinition:
    chosen: dict[str, Alternative | str | None] = {"attention": ParentAttention(), "ffn": ParentFfn()}
    for sub_block, alternative, piece in replacement.parts:
        chosen |= {sub_block: alternative, f"{sub_block}_piece": piece}
    return LayerDefinition.model_validate(chosen)


class HealedSweep(Sweep):
    """A sweep whose replacements and runs are healed on the way: the parent itself is never changed."""

    def __init__(self, healing: HealingGroups, *given: Any) -> None:
        """`given`: see `Sweep`. Scored tokens are the groups that `healing` measures."""
        super().__init__(*given)
        self.healing = healing

    def _ask_for_arguments(
        self, todo: Sequence[Replacement], runs: Sequence[Run], entering: Sequence[Tensor]
    ) -> None:
        """Groups go up one by one, in shapes that layers know."""

    def _up_the_layers(
        self, todo: Sequence[Replacement], runs: Sequence[Run], entering: list[Tensor], workers: Workers
    ) -> None:
        """In the order of first layers. Nothing is measured together, so figures do not depend on what else is."""
        everything: list[Scored] = [*todo, *runs]
        for scored in sorted(everything, key=lambda each: each.layer):
            if figures_name(scored) in self.partial.figures:
                self.progress.advance()
                continue
            healed = Healed.of(scored, len(self.runner))
            points = self._points(healed, below=scored.layer)
            ascent = Ascent(0)
            work = partial(self._healed, scored, healed, points, ascent)
            self._start([(-1, scored)], ascent, work, workers)
        self._keep_all()

    def _points(self, healed: Healed, *, below: int) -> Points:
        """The parent's streams that a child needs; what only children that differ below that layer need is forgotten.

        Layers are observed on the way, so no worker may run them meanwhile.
        """
        wanted = {healed.start, *(p for link in healed.changed for p in (link.point, link.goal))}
        top = max(wanted)
        if not self.healing.parent.reaches(top):
            self._wait_until_above((top - 1) // 2)
        self.healing.parent.forget_below(max(0, 2 * below - 1))
        return {point: self.healing.parent.at(point) for point in sorted(wanted)}

    def _healed(self, scored: Scored, healed: Healed, points: Points, ascent: Ascent) -> list[Measured]:
        """Heal up to the layer behind, then through the others and the head."""
        with ascent:
            stream: Sequence[Tensor] = list(points[healed.start])
            for link in healed.changed:
                stream = self.healing.past(link, stream, points, fit=healed.is_fitted(link))
            hidden = self.healing.measured(stream)
            for layer_idx in range(healed.behind + 1, len(self.runner)):
                ascent.to(layer_idx)
                hidden = [self.runner.run_layer(layer_idx, group) for group in hidden]
        return [self.rows.of(self.measure, [self.runner.final_norm(group) for group in hidden])]
