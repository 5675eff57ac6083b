"""Projections that a family joins into one: the rows of queries, keys and values, or of gate and up.

Canonical names are those of the parts. A part is a range of the rows of the whole, whose number follows from the sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import Tensor, nn

from puzzledsl.alternatives.weights import Shapes
from puzzledsl.families.family import Family


@dataclass(frozen=True, slots=True)
class Rows:
    """A canonical weight as rows of a joined one."""

    whole: str
    """Name of the joined weight."""
    start: int
    stop: int

    def of(self, whole: Tensor) -> Tensor:
        """Return the rows, sharing the memory of the whole."""
        return whole[self.start : self.stop]


def rows_of(weights: Shapes, family: Family) -> dict[str, Rows]:
    """Return those canonical weights that a family's classes join, as rows of the joined ones."""
    found: dict[str, Rows] = {}
    for name in weights:
        prefix, part, kind = _apart(name)
        for whole, parts in family.joined.items():
            names = [f"{prefix}{other}.{kind}" for other in parts]
            if part == parts[0] and all(other in weights for other in names):
                ends = accumulate((weights[other][0] for other in names), initial=0)
                places = [Rows(f"{prefix}{whole}.{kind}", *ends) for ends in pairwise(ends)]
                found |= dict(zip(names, places, strict=True))
    return found


def _apart(name: str) -> tuple[str, str, str]:
    """Split `model.layers.0.mlp.up_proj.weight` into `model.layers.0.mlp.`, `up_proj` and `weight`."""
    holder, _, kind = name.rpartition(".")
    prefix, dot, part = holder.rpartition(".")
    return prefix + dot, part, kind


def rows_of_module(module: nn.Module, family: Family) -> Iterator[tuple[str, Rows]]:
    """Yield (canonical name, rows) of each part of a sub-block's joined projections, which have no biases."""
    for whole, parts in family.joined.items():
        linear, output = getattr(module, whole, None), getattr(module, "o_proj", None)
        if not isinstance(linear, nn.Linear):
            continue
        queries = [output.in_features] if isinstance(output, nn.Linear) else []
        rest = (linear.out_features - sum(queries)) // 2
        ends = accumulate((*queries, rest, rest), initial=0)
        for part, (start, stop) in zip(parts, pairwise(ends), strict=True):
            yield f"{part}.weight", Rows(f"{whole}.weight", start, stop)


def whole_name(name: str, family: Family) -> str:
    """Return the name of the joined weight that has a canonical one, or the name itself."""
    prefix, part, kind = _apart(name)
    return next((f"{prefix}{w}.{kind}" for w, parts in family.joined.items() if part in parts), name)
