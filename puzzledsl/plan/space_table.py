"""A space as a table: the alternatives of every layer after overrides, and the facts of each alternative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum, log10

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.ir.facts import fact
from puzzledsl.ir.nodes import Program, Space
from puzzledsl.language.words import SUB_BLOCK_FACTS

SUB_BLOCKS: tuple[SubBlock, ...] = ("attention", "ffn")


@dataclass(frozen=True, slots=True)
class SpaceTable:
    """A space with the parent that its alternatives are measured against."""

    program: Program
    space: Space

    @property
    def log10_children(self) -> float:
        """The decimal logarithm of the number of children."""
        return fsum(log10(len(c.attention) * len(c.ffn)) for c in self.space.layers)

    def distinct(self, sub_block: SubBlock) -> list[Alternative]:
        """The alternatives of some layer, the parent's first, then in the order written."""
        choices = (c.attention if sub_block == "attention" else c.ffn for c in self.space.layers)
        found = dict.fromkeys(alternative for choice in choices for alternative in choice)
        return sorted(found, key=lambda alternative: alternative.kind != "parent")

    def facts(self, sub_block: SubBlock, alternative: Alternative) -> dict[str, object]:
        """Name, sizes and, of a rounded width, the width asked for."""
        shape = self.program.parents[self.space.parent].shape
        found: dict[str, object] = {"name": alternative.name}
        found |= {key: fact(alternative, key, shape) for key in SUB_BLOCK_FACTS[sub_block]}
        asked = {r.asked: str(r.exact) for r in self.space.roundings if f"mlp{r.width}" == found["name"]}
        return found | ({"rounded_from": asked} if asked else {})

    def as_json(self) -> dict[str, object]:
        """For machines: `layers` has one entry a layer, `alternatives` one a distinct alternative."""
        return {
            "name": self.space.name,
            "parent": self.space.parent,
            "log10_children": self.log10_children,
            "layers": [
                {
                    "layer": layer,
                    "attention": [a.name for a in choice.attention],
                    "ffn": [f.name for f in choice.ffn],
                }
                for layer, choice in enumerate(self.space.layers)
            ],
            "alternatives": {part: [self.facts(part, a) for a in self.distinct(part)] for part in SUB_BLOCKS},
        }

    def rows(self) -> Iterator[dict[str, object]]:
        """One row for each alternative of each sub-block of each layer, with its facts (None where it has none)."""
        columns = dict.fromkeys(key for part in SUB_BLOCKS for key in SUB_BLOCK_FACTS[part])
        facts = {(part, a): self.facts(part, a) for part in SUB_BLOCKS for a in self.distinct(part)}
        for layer, choice in enumerate(self.space.layers):
            for part in SUB_BLOCKS:
                for alternative in choice.attention if part == "attention" else choice.ffn:
                    known = facts[part, alternative]
                    row = {"layer": layer, "sub_block": part, "alternative": known["name"]}
                    yield row | {key: known.get(key) for key in columns}


def groups(space: Space) -> list[tuple[list[int], list[str], list[str]]]:
    """Layers with the same choice: their indices, the names of their attentions, and of their FFNs."""
    found: dict[object, list[int]] = {}
    for layer, choice in enumerate(space.layers):
        found.setdefault(choice, []).append(layer)
    return [
        (
            layers,
            [a.name for a in space.layers[layers[0]].attention],
            [a.name for a in space.layers[layers[0]].ffn],
        )
        for layers in found.values()
    ]
