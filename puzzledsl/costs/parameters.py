"""Parameters per GPU under tensor parallelism. `ir.facts` counts those of the whole model.

A sub-block owns the norm before it. Precondition: alternatives are valid for the shape.
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
    """Parameters of a sub-block, or of the part that no layer changes, on one of `t` GPUs.

    `matrices` are stored in the hardware's weight dtype, `vectors` (norms, biases) unquantised. `active` counts the
    matrix parameters used in one token's forward pass: fewer than `matrices` only for a mixture of experts.
    """

    matrices: int
    vectors: int
    active: int

    @property
    def params(self) -> int:
        """The total; on one GPU it equals `ir.facts.params`."""
        return self.matrices + self.vectors


NOTHING = Size(0, 0, 0)


def split(count: int, gpus: int) -> int:
    """Return the number of heads, channels or rows on the most loaded of `gpus`."""
    return -(-count // gpus)


def kv_heads_of(shape: Shape, alternative: Alternative) -> int:
    """Return the key/value heads with a cache: 0 for no-op and linear attention and for FFNs."""
    return facts.kv_heads(alternative, shape)


def attention_size(shape: Shape, kv_heads: int, gpus: int = 1) -> Size:
    """Return the size of attention. Query heads are split over the GPUs, key/value heads, too, down to one per GPU.

    Fewer key/value heads than GPUs are replicated.
    """
    queries, keys = (split(shape.heads, gpus) * shape.head_dim, split(kv_heads, gpus) * shape.head_dim)
    matrices = shape.hidden * (2 * queries + 2 * keys)
    biases = (queries + 2 * keys) * shape.attention_bias + shape.hidden * shape.output_bias
    norms = shape.hidden + 2 * shape.head_dim * shape.qk_norm
    return Size(matrices, biases + norms, matrices)


def mlp_size(shape: Shape, width: int, gpus: int = 1) -> Size:
    """Return the size of a gated FFN: gate, up and down, split by channels."""
    channels = split(width, gpus)
    matrices = 3 * shape.hidden * channels
    biases = (2 * channels + shape.hidden) * shape.mlp_bias
    return Size(matrices, biases + shape.hidden, matrices)


def moe_size(shape: Shape, moe: MoeFfn, gpus: int = 1) -> Size:
    """Return the size of a mixture of experts: the router, whole on every GPU, and the experts, each split by channels."""
    expert, router = mlp_size(shape, moe.width, gpus), shape.hidden * moe.experts
    biases = moe.experts * (expert.vectors - shape.hidden)
    active = router + moe.top_k * expert.matrices
    return Size(router + moe.experts * expert.matrices, biases + shape.hidden, active)


def linear_size(shape: Shape, gpus: int = 1) -> Size:
    """Return the size of one hidden x hidden matrix, split by rows."""
    matrix = shape.hidden * split(shape.hidden, gpus)
    return Size(matrix, shape.hidden, matrix)


def size_of(shape: Shape, alternative: Alternative, gpus: int = 1) -> Size:
    """Return the size of a sub-block on one of `gpus` tensor-parallel GPUs, norm included."""
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
    """Return the size of embedding, final norm and head.

    Tied embeddings count once; `active` is the head alone (the embedding is a look-up).
    """
    matrix = split(shape.vocab, gpus) * shape.hidden
    return Size(matrix if shape.tied else 2 * matrix, shape.hidden, matrix)
