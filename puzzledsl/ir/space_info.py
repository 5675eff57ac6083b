"""What the checker knows of a space: enough to read patterns, overrides and the expressions of its searches."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from puzzledsl.ir.alternatives import Alternative, AttentionAlternative, FfnAlternative, SubBlock
from puzzledsl.ir.nodes import Rounding, Shape, WholeModel

if TYPE_CHECKING:
    from puzzledsl.ir.names import Symbol


@dataclass(slots=True, eq=False)
class SpaceInfo:
    """A space under construction. `base_*` is the choice before overrides; `asked` what widths were before rounding.

    `incomplete`: part of a choice could not be read, so its size and its gaps are nobody's further mistake.
    """

    name: str
    parent: Symbol
    shape: Shape
    base_attention: tuple[AttentionAlternative, ...] = ()
    base_ffn: tuple[FfnAlternative, ...] = ()
    attention: list[tuple[AttentionAlternative, ...]] = field(default_factory=list)
    ffn: list[tuple[FfnAlternative, ...]] = field(default_factory=list)
    asked: dict[int, set[Fraction]] = field(default_factory=dict)
    roundings: list[Rounding] = field(default_factory=list)
    incomplete: bool = False
    whole_model: WholeModel | None = None

    @property
    def all_layers(self) -> tuple[int, ...]:
        """0 to layers - 1."""
        return tuple(range(self.shape.layers))

    def choices(
        self, sub_block: SubBlock
    ) -> list[tuple[AttentionAlternative, ...]] | list[tuple[FfnAlternative, ...]]:
        """The alternatives of every layer."""
        return self.attention if sub_block == "attention" else self.ffn

    def alternatives(self, sub_block: SubBlock, layers: tuple[int, ...]) -> list[Alternative]:
        """The distinct alternatives some of `layers` may choose, in the order written."""
        found: dict[Alternative, None] = {}
        for layer in layers:
            found.update(dict.fromkeys(self.choices(sub_block)[layer]))
        return list(found)
