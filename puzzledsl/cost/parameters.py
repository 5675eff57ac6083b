"""What one GPU holds of a sub-block: `ir.facts` counts a model's parameters, this module how tensor
parallelism shares them.

A sub-block owns the norm in front of it. Guaranteed before: alternatives are valid for the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from puzzledsl.ir import facts
from puzzledsl.ir.alternatives import (
    Alternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    MoeFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
)
from puzzledsl.ir.nodes import Shape


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters of a sub-block, or of what no layer can change, as one GPU of `t` holds them.

    `matrices` are stored in the hardware's weight dtype, `vectors` (norms, biases) unquantised. `active` are
    the matrix parameters that take part in one token's forward: fewer than `matrices` only for a mixture of
    experts.
    """

    matrices: int
    vectors: int
    active: int

    @property
    def params(self) -> int:
        """All of them: on one GPU, the count of `ir.facts.params`."""
        return self.matrices + self.vectors


NOTHING = Size(0, 0, 0)


def split(count: int, gpus: int) -> int:
    """Heads, channels or rows that the most loaded of `gpus` holds."""
    return -(-count // gpus)


def kv_heads_of(shape: Shape, alternative: Alternative) -> int:
    """Key/value heads that keep a cache: 0 for anything but attention proper."""
    return facts.kv_heads(alternative, shape)


def attention_size(shape: Shape, kv_heads: int, gpus: int = 1) -> Size:
    """Attention proper. Query heads are split over the GPUs; key/value heads too, down to one each
    (replicated beyond)."""
    queries, keys = (split(shape.heads, gpus) * shape.head_dim, split(kv_heads, gpus) * shape.head_dim)
    matrices = shape.hidden * (2 * queries + 2 * keys)
    biases = (queries + 2 * keys) * shape.attention_bias + shape.hidden * shape.output_bias
    norms = shape.hidden + 2 * shape.head_dim * shape.qk_norm
    return Size(matrices, biases + norms, matrices)


def mlp_size(shape: Shape, width: int, gpus: int = 1) -> Size:
    """A gated FFN: gate, up and down, split by channels."""
    channels = split(width, gpus)
    matrices = 3 * shape.hidden * channels
    biases = (2 * channels + shape.hidden) * shape.mlp_bias
    return Size(matrices, biases + shape.hidden, matrices)


def moe_size(shape: Shape, moe: MoeFfn, gpus: int = 1) -> Size:
    """A router (whole on every GPU) and experts, each split by channels."""
    expert, router = mlp_size(shape, moe.width, gpus), shape.hidden * moe.experts
    biases = moe.experts * (expert.vectors - shape.hidden)
    active = router + moe.top_k * expert.matrices
    return Size(router + moe.experts * expert.matrices, biases + shape.hidden, active)


def linear_size(shape: Shape, gpus: int = 1) -> Size:
    """One hidden x hidden matrix, split by rows."""
    matrix = shape.hidden * split(shape.hidden, gpus)
    return Size(matrix, shape.hidden, matrix)


def size_of(shape: Shape, alternative: Alternative, gpus: int = 1) -> Size:
    """What one GPU of `gpus` (tensor parallel) holds of a sub-block, norm included."""
    match alternative:
        case ParentAttention():
            return attention_size(shape, shape.kv_heads, gpus)
        case GqaAttention(kv_heads=kv_heads):
            return attention_size(shape, kv_heads, gpus)
        case ParentFfn():
            return mlp_size(shape, shape.intermediate, gpus)
        case MlpFfn(width=width):
            return mlp_size(shape, width, gpus)
        case MoeFfn():
            return moe_size(shape, alternative, gpus)
        case LinearAttention() | LinearFfn():
            return linear_size(shape, gpus)
        case NoOpAttention() | NoOpFfn():
            return NOTHING
        case _:
            assert_never(alternative)


def fixed_size(shape: Shape, gpus: int = 1) -> Size:
    """Embedding, final norm and head. Tied embeddings count once; `active` is the head alone (the embedding
    is a look-up)."""
    matrix = split(shape.vocab, gpus) * shape.hidden
    return Size(matrix if shape.tied else 2 * matrix, shape.hidden, matrix)
