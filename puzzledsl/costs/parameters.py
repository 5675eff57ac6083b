"""Parameters outside the layers, on each GPU under tensor parallelism. `Alternative.size` has those of a sub-block."""

from __future__ import annotations

from puzzledsl.alternatives.weights import Size, split
from puzzledsl.ir.nodes import Shape


def fixed_size(shape: Shape, gpus: int = 1) -> Size:
    """Return the size of embedding, final norm and head.

    Tied embeddings count once; `active` is the head alone (the embedding is a look-up).
    """
    matrix = split(shape.vocab, gpus) * shape.hidden
    return Size(matrix if shape.tied else 2 * matrix, shape.hidden, matrix)
