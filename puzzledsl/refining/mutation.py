"""Level-switch mutation (EvoPress: Sieberling et al. 2025, arXiv 2410.14649, algorithm 1).

One sub-block goes one level down, to the next cheaper alternative, and another goes one level up, so that the child costs about
the same. The paper's levels are equally far apart in cost. Alternatives are not, so a mutant may violate a requirement; the
caller then draws another. Where the paper restores one dropped layer and drops another, here two layers exchange their choices.

Levels are ordered by parameters. Alternatives with equally many (attention windows) keep the order of the space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir.nodes import LayerChoice
from puzzledsl.ir.tables import Assignment, CostTable, LayerAssignment, layers_of_child

MOST_SWITCHES = 3
"""The number of switches is the smaller of two uniform draws from 1 to this: 5 of 9 mutants have one switch."""
EXCHANGES = 0.25
"""Probability that a switch exchanges two layers."""
Layers = tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A sub-block of a layer. `levels` are the names of its alternatives, most parameters first."""

    layer: int
    sub_block: SubBlock
    levels: tuple[str, ...]

    def next_to(self, child: Layers, step: Literal[1, -1]) -> str | None:
        """Return the alternative one level below (`step` 1) or above (-1) the child's; None at the end of the levels."""
        level = self.levels.index(getattr(child[self.layer], self.sub_block)) + step
        return self.levels[level] if 0 <= level < len(self.levels) else None


class Mutation:
    """Draws mutants of a child within the space. The caller checks the requirements."""

    def __init__(self, choices: Sequence[LayerChoice], costs: CostTable) -> None:
        """`choices`: the alternatives of each layer. `costs`: a table with the parameters of all of them."""
        self._places = list(_places(choices, costs))
        self._choices = [
            ({a.name for a in choice.attention}, {f.name for f in choice.ffn}) for choice in choices
        ]

    def mutant(self, parent: Layers, generator: np.random.Generator) -> Layers:
        """Return a child 1 to MOST_SWITCHES switches away from `parent`; `parent` itself if no switch is possible."""
        switches = int(generator.integers(1, MOST_SWITCHES, size=2, endpoint=True).min())
        child = parent
        for _ in range(switches):
            exchanged = generator.random() < EXCHANGES
            child = self._exchanged(child, generator) if exchanged else self._switched(child, generator)
        return child

    def _switched(self, child: Layers, generator: np.random.Generator) -> Layers:
        """Return the child with one sub-block a level lower and another a level higher; unchanged if that is impossible."""
        down = self._changed(child, generator, 1, self._places)
        if down is None:
            return child
        cheaper, changed = down
        up = self._changed(cheaper, generator, -1, [place for place in self._places if place is not changed])
        return child if up is None else up[0]

    def _changed(
        self, child: Layers, generator: np.random.Generator, step: Literal[1, -1], places: Sequence[Place]
    ) -> tuple[Layers, Place] | None:
        """Move one random sub-block of `places` by a level. Return the child and the place; None if none can move."""
        able = [(place, name) for place in places if (name := place.next_to(child, step)) is not None]
        if not able:
            return None
        place, name = able[generator.integers(len(able))]
        layer = child[place.layer].model_copy(update={place.sub_block: name})
        return (*child[: place.layer], layer, *child[place.layer + 1 :]), place

    def _exchanged(self, child: Layers, generator: np.random.Generator) -> Layers:
        """Exchange the choices of two random layers that differ and may each have the other's; unchanged if there are none."""
        blocks = layers_of_child(child)
        first = int(generator.integers(len(blocks)))
        others = [
            other
            for other in range(len(blocks))
            if blocks[other] != blocks[first]
            and self._may(first, blocks[other])
            and self._may(other, blocks[first])
        ]
        if not others:
            return child
        other = others[generator.integers(len(others))]
        layers = list(child)
        layers[first], layers[other] = layers[other], layers[first]
        return tuple(layers)

    def _may(self, layer: int, assignment: LayerAssignment) -> bool:
        attention, ffn = self._choices[layer]
        return assignment.attention in attention and assignment.ffn in ffn


def _places(choices: Sequence[LayerChoice], costs: CostTable) -> Iterator[Place]:
    for layer, choice in enumerate(choices):
        parts: tuple[tuple[SubBlock, Sequence[str], dict[str, int]], ...] = (
            ("attention", [a.name for a in choice.attention], costs.params_attention[layer]),
            ("ffn", [a.name for a in choice.ffn], costs.params_ffn[layer]),
        )
        for sub_block, names, params in parts:
            levels = sorted(names, key=lambda name: -params[name])
            yield Place(layer, sub_block, tuple(levels))
