"""The checker's knowledge of a space, for reading patterns, overrides and the expressions of its searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, EndName, SubBlock
from puzzledsl.alternatives.ends import PARENT_ENDS
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.ir.nodes import Rounding, Shape

Choice = tuple[Alternative, ...]
"""Alternatives of one layer at one site, in the order written."""


@dataclass(slots=True, eq=False)
class SpaceInfo:
    """A space under construction. `asked` maps widths to their unrounded values.

    `base` has the choice at each site of a layer before overrides, `chosen` the one after: site -> alternatives of every layer.
    `ends` has the choice of the embedding and of the head, where the space gives one.
    `parent` is the name that its declaration has, `parent_id` the one that it has in the program.

    `incomplete`: a part of a choice could not be read, so diagnostics about its size and gaps are suppressed.
    `guessed`: the parent is unknown, and the shape is a placeholder that almost anything fits.
    """

    name: str
    parent: str
    parent_id: str
    shape: Shape
    base: dict[SubBlock, list[Choice]]
    chosen: dict[SubBlock, list[Choice]]
    ends: dict[EndName, Choice] = field(default_factory=dict)
    asked: dict[tuple[int, int], set[Fraction]] = field(default_factory=dict)
    roundings: list[Rounding] = field(default_factory=list)
    incomplete: bool = False
    guessed: bool = False

    @property
    def all_layers(self) -> tuple[int, ...]:
        """The indices of all layers: 0 to layers - 1."""
        return tuple(range(self.shape.layers))

    def choices(self, site: SubBlock) -> list[Choice]:
        """Return the alternatives of every layer at one site."""
        return self.chosen[site]

    def of_end(self, site: EndName) -> Choice:
        """Return the alternatives of an end of the model: the parent's alone where the space gives no choice."""
        return self.ends.get(site, (PARENT_ENDS[site],))

    def choose(self, site: SubBlock, found: Sequence[Sequence[Alternative]]) -> None:
        """Set the choice of every layer; one without an alternative keeps its own sub-block."""
        alike: dict[int, Choice] = {}
        for choice in found:
            alike.setdefault(id(choice), tuple(choice) or (PARENTS[site],))
        self.base[site] = [alike[id(choice)] for choice in found]
        self.chosen[site] = [*self.base[site]]

    def alternatives(self, site: SubBlock, layers: tuple[int, ...]) -> list[Alternative]:
        """Return the distinct alternatives that `layers` can choose, in the order written."""
        found: dict[Alternative, None] = {}
        for layer in layers:
            found.update(dict.fromkeys(self.chosen[site][layer]))
        return list(found)

    def derived(self, name: str) -> SpaceInfo:
        """Return a space that begins as this one."""
        return replace(
            self,
            name=name,
            base={site: [*rows] for site, rows in self.base.items()},
            chosen={site: [*rows] for site, rows in self.chosen.items()},
            asked={width: set(exact) for width, exact in self.asked.items()},
            ends=dict(self.ends),
            roundings=[*self.roundings],
        )


_HEADS = 720_720  # divided by every number up to 16
_ANY_SHAPE = Shape(
    family="llama",
    layers=128,
    hidden=8192,
    heads=_HEADS,
    kv_heads=_HEADS,
    head_dim=128,
    intermediate=2**40,
    vocab=2**17,
    tied=False,
)


def guessed(name: str) -> SpaceInfo:
    """Return a placeholder for a space that could not be read, so that its statements and searches can still be checked."""
    info = all_parent(name, name, name, _ANY_SHAPE)
    info.incomplete = info.guessed = True
    return info


def all_parent(name: str, parent: str, parent_id: str, shape: Shape) -> SpaceInfo:
    """Return a space in which every layer stays as it is."""
    own: dict[SubBlock, Choice] = {site: (PARENTS[site],) for site in SUB_BLOCKS}
    base = {site: [choice] * shape.layers for site, choice in own.items()}
    return SpaceInfo(name, parent, parent_id, shape, base, {site: [*rows] for site, rows in base.items()})
