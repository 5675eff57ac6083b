"""The parent's own sub-block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from puzzledsl.alternatives.alternative import ANY_KIND, Alternative, Attention, Ffn, Look, Site
from puzzledsl.alternatives.shape import Shape


class _Parent(Alternative):
    """The parent's own module."""

    place: ClassVar[int] = 0
    summary: ClassVar[str] = "The parent's own sub-block, untouched: no job, score 0."
    replaces: ClassVar[tuple[str, ...]] = (*ANY_KIND, "none")
    in_families: ClassVar[bool] = True
    own_weights: ClassVar[bool] = False
    look: ClassVar[Look] = "parent"

    def changes(self, shape: Shape) -> dict[str, Any]:
        """Nothing differs."""
        return {}


class ParentAttention(_Parent, Attention):
    """The parent's own attention, untouched."""

    kind: Literal["parent"] = "parent"
    has_cache: ClassVar[bool] = True


class ParentFfn(_Parent, Ffn):
    """The parent's own FFN, untouched."""

    kind: Literal["parent"] = "parent"


PARENTS: Mapping[Site, Alternative] = {"attention": ParentAttention(), "ffn": ParentFfn()}
