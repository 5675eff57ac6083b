"""Memory of one GPU: weights in their storage types, the KV cache in pages, and states."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import (
    PARENT_EMBEDDING,
    PARENT_HEAD,
    End,
    ParentEmbedding,
    ParentHead,
    stored_apart,
)
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.alternatives.weights import Size, Stored, split, state_size
from puzzledsl.costs.dtypes import (
    CACHE_BYTES,
    DTYPE_BYTES,
    STATE_BYTES,
    expert_dtype,
    head_dtype,
    residual_bytes,
)
from puzzledsl.costs.flops import Workload, fixed_size
from puzzledsl.ir.nodes import RooflineHardware, Shape


def matrix_bytes(hardware: RooflineHardware, size: Size) -> tuple[Fraction, Fraction]:
    """Return the bytes of the matrices that every forward pass reads, and of all experts on the GPU."""
    if size.stored is not None:
        return stored_bytes(hardware, size, size.stored)
    always = (size.matrices - size.experts) * DTYPE_BYTES[hardware.dtype]
    return always, size.experts * DTYPE_BYTES[expert_dtype(hardware)]


def stored_bytes(hardware: RooflineHardware, size: Size, stored: Stored) -> tuple[Fraction, Fraction]:
    """Return the bytes as `matrix_bytes` does, of a quantised sub-block: codes, scales, and what stays unquantised."""
    precision = PRECISIONS[stored.dtype]
    code = Fraction(precision.bits, 8)
    always = code * (size.matrices - size.experts - stored.plain) + precision.scale_bytes * stored.scales
    experts = code * size.experts + precision.scale_bytes * stored.expert_scales
    return always + stored.plain * DTYPE_BYTES[hardware.dtype], experts


def weights_bytes(hardware: RooflineHardware, size: Size) -> int:
    """Return the bytes of a sub-block: matrices in their types, norms and biases in the embedding's type."""
    vectors = size.vectors * DTYPE_BYTES[hardware.embedding_dtype]
    return ceil(sum(matrix_bytes(hardware, size)) + vectors)


def end_bytes(hardware: RooflineHardware, shape: Shape, end: End) -> Fraction:
    """Return the bytes of an end's matrix: in the type of its own, else in the one that the hardware says."""
    size = size_on(hardware, shape, end)
    if size.stored is not None:
        return sum(stored_bytes(hardware, size, size.stored), Fraction(0))
    dtype = hardware.embedding_dtype if end.sub_block == "embedding" else head_dtype(hardware)
    return size.matrices * DTYPE_BYTES[dtype]


def fixed_bytes(
    hardware: RooflineHardware,
    shape: Shape,
    embedding: ParentEmbedding = PARENT_EMBEDDING,
    head: ParentHead = PARENT_HEAD,
) -> int:
    """Return the bytes of embedding, head and norm; tied ends share a matrix in the wider type unless the child's differ."""
    ends = [end_bytes(hardware, shape, end) for end in (embedding, head)]
    matrices = sum(ends) if stored_apart(embedding, head, tied=shape.tied) else max(ends)
    vectors = fixed_size(shape, hardware.gpus).vectors * DTYPE_BYTES[hardware.embedding_dtype]
    return ceil(matrices + vectors)


def kv_bytes_per_token(
    hardware: RooflineHardware, shape: Shape, kv_heads: int, cache: str | None = None
) -> Fraction:
    """Return the bytes of one token's keys and values in one layer on one GPU; fewer heads than GPUs are replicated.

    `cache`: their type, by default the hardware's.
    """
    return 2 * split(kv_heads, hardware.gpus) * shape.head_dim * CACHE_BYTES[cache or hardware.kv_dtype]


def cached_tokens(hardware: RooflineHardware, window: int | None, work: Workload) -> int:
    """Return the tokens that the pages of one sequence hold.

    `full`: its final length, as if no sequence is evicted or the batch runs in lock step. `mean`: its mean length, as
    if sequences come and go and pages are allocated on demand. A window caps either.
    """
    output = work.output if hardware.kv_policy == "full" else -(-work.output // 2)
    length = work.prompt + output
    tokens = length if window is None else min(length, window)
    return split(tokens, hardware.page_tokens) * hardware.page_tokens


def state_bytes(hardware: RooflineHardware, shape: Shape, alternative: Alternative) -> Fraction:
    """Return the bytes of one sequence's state in one layer on one GPU: the convolution's inputs and the recurrent state."""
    size = state_size(alternative.alone(shape), hardware.gpus)
    return size.conv * residual_bytes(hardware) + size.scan * STATE_BYTES


def sequence_bytes(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload
) -> Fraction:
    """Return the bytes that one sequence keeps in one layer: its KV cache in whole pages, and its state."""
    own = alternative.alone(shape)
    tokens = cached_tokens(hardware, own.attended, work)
    cache = tokens * kv_bytes_per_token(hardware, shape, own.cached_heads, alternative.cache)
    return cache + state_bytes(hardware, shape, alternative)


def size_on(hardware: RooflineHardware, shape: Shape, alternative: Alternative) -> Size:
    """Return the size of an alternative in a layer of this shape on the most loaded GPU."""
    return alternative.size(shape, hardware.gpus, hardware.expert_parallel)


def cache_room(hardware: RooflineHardware, weights_bytes: int) -> Fraction:
    """Return the bytes available to the KV cache: the profile's share of the memory that reserve and weights leave."""
    return (hardware.memory_bytes - hardware.reserve_bytes - weights_bytes) * hardware.kv_fraction


def largest_batch(most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest batch from 1 to `most` that fits, by bisection; 0 if none fits.

    Bisection is valid because every batch below a fitting one fits: the cache of each layer is `ceil(batch * bytes of
    one sequence)`, which does not decrease with the batch, and nothing else depends on it.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
