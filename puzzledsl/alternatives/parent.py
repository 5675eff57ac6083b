"""The parent's own sub-blocks, and its ends: embedding and output head, which are sites of the whole model and no layer's.

An end stays what it is in the parent, stored in one of the types of `precision`. The head multiplies; the embedding is looked up.
In a parent that ties them both are one matrix: types that differ untie them, and the model has two.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from puzzledsl.alternatives.alternative import ANY_KIND, Alternative, Attention, EndName, Ffn, Look, Site
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.weights import Weight, Weights


class _Parent(Alternative):
    """The parent's own module."""

    place: ClassVar[int] = 0
    summary: ClassVar[str] = "The parent's own sub-block, untouched: no job, score 0."
    replaces: ClassVar[tuple[str, ...]] = (*ANY_KIND, "none")
    in_families: ClassVar[bool] = True
    own_weights: ClassVar[bool] = False
    look: ClassVar[Look] = "parent"

    def changes(self, shape: Shape) -> dict[str, Any]:
        """Return no changes: the layer stays as it is."""
        return {}


class ParentAttention(_Parent, Attention, kind="parent"):
    """The parent's own attention, untouched."""

    has_cache: ClassVar[bool] = True


class ParentFfn(_Parent, Ffn, kind="parent"):
    """The parent's own FFN, untouched."""


PARENTS: Mapping[Site, Alternative] = {"attention": ParentAttention(), "ffn": ParentFfn()}


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


class ParentEmbedding(End, kind="parent"):
    """The parent's embedding."""

    sub_block: ClassVar[EndName] = "embedding"
    summary: ClassVar[str] = "The parent's own embedding."


class ParentHead(End, kind="parent"):
    """The parent's output head."""

    sub_block: ClassVar[EndName] = "head"
    summary: ClassVar[str] = "The parent's own output head."


PARENT_EMBEDDING, PARENT_HEAD = ParentEmbedding(), ParentHead()
PARENT_ENDS: Mapping[EndName, End] = {"embedding": PARENT_EMBEDDING, "head": PARENT_HEAD}


def stored_apart(embedding: End, head: End, *, tied: bool) -> bool:
    """Return True if embedding and head are two matrices: the parent does not tie them, or their storage types differ."""
    return not tied or embedding.dtype != head.dtype
