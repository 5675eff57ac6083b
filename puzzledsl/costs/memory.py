"""Memory of one GPU: weights in their storage types, and the KV cache in pages."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.weights import Size, split
from puzzledsl.costs.dtypes import DTYPE_BYTES, head_dtype
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.parameters import fixed_size
from puzzledsl.ir.nodes import RooflineHardware, Shape


def weights_bytes(hardware: RooflineHardware, size: Size) -> int:
    """Return the bytes of a sub-block: matrices in the weight type, norms and biases in the embedding's type."""
    vectors = size.vectors * DTYPE_BYTES[hardware.embedding_dtype]
    return ceil(size.matrices * DTYPE_BYTES[hardware.dtype] + vectors)


def fixed_bytes(hardware: RooflineHardware, shape: Shape) -> int:
    """Return the bytes of embedding, head and final norm. A tied head shares one matrix, in the wider of the two types."""
    size = fixed_size(shape, hardware.gpus)
    embedding, head = DTYPE_BYTES[hardware.embedding_dtype], DTYPE_BYTES[head_dtype(hardware)]
    matrices = size.active * (max(embedding, head) if shape.tied else embedding + head)
    return ceil(matrices + size.vectors * embedding)


def kv_bytes_per_token(hardware: RooflineHardware, shape: Shape, kv_heads: int) -> Fraction:
    """Return the bytes of one token's keys and values in one layer on one GPU; fewer heads than GPUs are replicated."""
    return 2 * split(kv_heads, hardware.gpus) * shape.head_dim * DTYPE_BYTES[hardware.kv_dtype]


def cached_tokens(hardware: RooflineHardware, window: int | None, work: Workload) -> int:
    """Return the tokens that the pages of one sequence hold.

    `full`: its final length, as if no sequence is evicted or the batch runs in lock step. `mean`: its mean length, as
    if sequences come and go and pages are allocated on demand. A window caps either.
    """
    output = work.output if hardware.kv_policy == "full" else -(-work.output // 2)
    length = work.prompt + output
    tokens = length if window is None else min(length, window)
    return split(tokens, hardware.page_tokens) * hardware.page_tokens


def kv_cache_bytes(
    hardware: RooflineHardware, shape: Shape, kv_heads: int, window: int | None, work: Workload
) -> int:
    """Return the bytes of the whole batch's KV cache in one layer, in whole pages."""
    tokens = work.batch * cached_tokens(hardware, window, work)
    return ceil(tokens * kv_bytes_per_token(hardware, shape, kv_heads))


def parent_weights_bytes(hardware: RooflineHardware, shape: Shape) -> int:
    """Return the bytes of the whole parent's weights on one GPU."""
    blocks = (ParentAttention(), ParentFfn())
    layer = sum(weights_bytes(hardware, block.size(shape, hardware.gpus)) for block in blocks)
    return fixed_bytes(hardware, shape) + shape.layers * layer


def largest_parent_batch(hardware: RooflineHardware, shape: Shape, prompt: int, output: int) -> int:
    """Return the number of the parent's sequences that fit together, at most `max_batch`; 0 if none fits.

    The KV cache may use the profile's share of the memory that reserve and weights leave.
    """
    free = cache_room(hardware, parent_weights_bytes(hardware, shape))

    def fits(batch: int) -> bool:
        work = Workload(batch, prompt, output)
        return shape.layers * kv_cache_bytes(hardware, shape, shape.kv_heads, shape.window, work) <= free

    return largest_batch(hardware.max_batch, fits)


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
