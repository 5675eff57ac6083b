"""A space as a table: the alternatives of every layer after overrides, and the facts of each alternative."""

from collections import Counter
from dataclasses import dataclass, field
from math import fsum, log10

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.ir.facts import fact
from puzzledsl.ir.nodes import Program, Shape, Space
from puzzledsl.language.words import SUB_BLOCK_FACTS


@dataclass(frozen=True, slots=True)
class Row:
    """An alternative in layers of one shape, with its facts."""

    alternative: Alternative
    own: Shape
    facts: dict[str, object]
    layers: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SpaceTable:
    """A space with the parent that its alternatives are measured against."""

    program: Program
    space: Space

    @property
    def log10_children(self) -> float:
        """The decimal logarithm of the number of children."""
        ends = 1 if self.space.ends is None else len(self.space.ends.offered)
        return fsum(map(log10, (ends, *(len(c.attention) * len(c.ffn) for c in self.space.layers))))

    def distinct(self, sub_block: SubBlock) -> list[Row]:
        """The distinct alternatives, the parent's first, then as written; one whose facts differ by layer has several rows."""
        found: dict[tuple[Alternative, str], Row] = {}
        shape = self.program.parents[self.space.parent].shape
        own_of = {layer: own for own, layers in shape.kinds_of(sub_block) for layer in layers}
        memo: dict[tuple[Alternative, int], Row] = {}
        for layer, choice in enumerate(self.space.layers):
            for alternative in choice.attention if sub_block == "attention" else choice.ffn:
                own = own_of[layer]
                if (row := memo.get((alternative, id(own)))) is None:
                    facts = self.facts(sub_block, alternative, own)
                    row = found.setdefault((alternative, repr(facts)), Row(alternative, own, facts))
                    memo[alternative, id(own)] = row
                row.layers.append(layer)
        return sorted(found.values(), key=lambda row: not row.alternative.is_parent)

    def facts(self, sub_block: SubBlock, alternative: Alternative, own: Shape) -> dict[str, object]:
        """Name and sizes of an alternative in a layer of shape `own`; of a rounded FFN width, also the widths asked for."""
        found: dict[str, object] = {"name": alternative.name}
        found |= {key: fact(alternative, key, own) for key in SUB_BLOCK_FACTS[sub_block]}
        asked = {r.asked: str(r.exact) for r in self.space.roundings if f"mlp{r.width}" == found["name"]}
        return found | ({"rounded_from": asked} if asked else {})

    def as_json(self) -> dict[str, object]:
        """Return a JSON object: `layers` has one entry a layer, `alternatives` one for each row of `distinct`."""
        sites = self.space.ends or ()
        ends = {site: [end.name for end in choice] for site, choice in sites}
        alternatives: dict[str, list[dict[str, object]]] = {}
        for part in SUB_BLOCKS:
            rows = self.distinct(part)
            names = Counter(row.alternative.name for row in rows)
            several = ({"layers": r.layers} if names[r.alternative.name] > 1 else {} for r in rows)
            alternatives[part] = [row.facts | more for row, more in zip(rows, several, strict=True)]
        return {
            "name": self.space.name,
            "parent": self.space.parent,
            "log10_children": self.log10_children,
            "layers": [
                {"layer": i, "attention": [a.name for a in c.attention], "ffn": [f.name for f in c.ffn]}
                for i, c in enumerate(self.space.layers)
            ],
            **({"ends": ends} if ends else {}),
            "alternatives": alternatives,
        }
