"""Ends of a model: its embedding and its output head, which are sites of the whole model and no layer's.

Each stays what it is in the parent, stored in one of the types of `precision`. The head multiplies; the embedding is looked
up. In a parent that ties them both are one matrix: types that differ untie them, and the model has two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from puzzledsl.alternatives.alternative import Alternative, EndName, Look
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.weights import Weight, Weights

END_DTYPES = "end_dtypes"
"""Key of a child's config.json with the storage types of its ends, by name; absent where none has one."""


class End(Alternative):
    """The parent's own embedding or head."""

    place: ClassVar[int] = 0
    own_weights: ClassVar[bool] = False
    look: ClassVar[Look] = "parent"

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """Return no reason: every model has both ends."""
        return ""

    def weights(self, shape: Shape) -> Weights:
        """Return the matrix [vocab, hidden], whose rows the GPUs share out."""
        return {"weight": Weight((shape.vocab, shape.hidden), 0)}


class ParentEmbedding(End):
    """The parent's embedding."""

    kind: Literal["parent"] = "parent"
    sub_block: ClassVar[EndName] = "embedding"
    summary: ClassVar[str] = "The parent's own embedding."


class ParentHead(End):
    """The parent's output head."""

    kind: Literal["parent"] = "parent"
    sub_block: ClassVar[EndName] = "head"
    summary: ClassVar[str] = "The parent's own output head."


PARENT_EMBEDDING, PARENT_HEAD = ParentEmbedding(), ParentHead()
PARENT_ENDS: Mapping[EndName, End] = {"embedding": PARENT_EMBEDDING, "head": PARENT_HEAD}


def stored_apart(embedding: End, head: End, *, tied: bool) -> bool:
    """Return True for two matrices: the parent does not tie its ends, or their types differ."""
    return not tied or embedding.dtype != head.dtype
