"""Memory of one GPU: weights in their storage types, the KV cache in pages, and states; and the share of experts that is read.

A token chooses k of E experts, and tokens are taken to choose independently and evenly, as routers are trained to. n
tokens leave an expert out with probability (1 - k / E)^n, so that E (1 - (1 - k / E)^n) are expected to be read.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import ceil, gcd

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import (
    PARENT_EMBEDDING,
    PARENT_HEAD,
    End,
    ParentEmbedding,
    ParentHead,
    stored_apart,
)
from puzzledsl.alternatives.precision import CACHES, PRECISIONS
from puzzledsl.alternatives.weights import Size, Stored, split, state_size
from puzzledsl.costs.flops import Workload, fixed_size
from puzzledsl.ir.nodes import RooflineHardware, Shape

CERTAIN = 24
"""From n = CERTAIN * E / k tokens on, all experts count: e^-24 of them, less than 1e-10, would be left out."""
MANY = 128
"""Beyond MANY * k experts, (1 - k / E)^n has too many digits: see `_interpolated`."""
BITS = 24
"""Precision of what is interpolated."""


@lru_cache(maxsize=1 << 14)
def share_read(experts: int, top_k: int, tokens: int) -> tuple[int, int]:
    """Return the expected share of experts that `tokens` tokens read (but see CERTAIN, MANY): numerator and denominator.

    It does not decrease with the tokens, and divided by them it does not increase. Both hold for 1 - q^n (q = 1 - k / E).
    They hold at the step to 1, too: there 1 / (n + 1) <= (1 - q^n) / n if (n + 1) q^n <= 1, and q^n < e^-24 while n is below
    2^31.
    """
    if tokens * top_k >= CERTAIN * experts or top_k >= experts:
        return 1, 1
    common = gcd(experts, top_k)
    whole, left = experts // common, (experts - top_k) // common
    if experts > MANY * top_k:
        return _interpolated(whole, left, tokens, -(-experts // (MANY * top_k)))
    denominator = whole**tokens
    return denominator - left**tokens, denominator


def _interpolated(whole: int, left: int, tokens: int, step: int) -> tuple[int, int]:
    """Return 1 - r^(n / step) for n tokens: exact at multiples of `step`, a line between. r is (left / whole)^step in BITS bits.

    r^m is convex in m for every r below 1, and so are the lines between: both properties of `share_read` hold. Rounding
    changes r^m by less than a thousandth up to the step to 1.
    """
    kept = round(Fraction(left, whole) ** step * 2**BITS)
    steps, rest = divmod(tokens, step)
    between = ((step - rest) << BITS) + kept * rest
    denominator = step << BITS * (steps + 1)
    return denominator - kept**steps * between, denominator


DTYPE_BYTES: dict[str, Fraction] = {
    "fp64": Fraction(8),
    "fp32": Fraction(4),
    "tf32": Fraction(4),
    "bf16": Fraction(2),
    "fp16": Fraction(2),
    "fp8": Fraction(1),
    "int8": Fraction(1),
    "fp4": Fraction(1, 2),
    "int4": Fraction(1, 2),
    "mxfp4": Fraction(17, 32),  # 4 bits, and 8 bits of scale for 32 numbers
}
CACHE_BYTES = DTYPE_BYTES | {cache.name: cache.bytes for cache in CACHES.values()}
"""Bytes of a cached number by its type, scales included."""
STATE_BYTES = Fraction(4)  # recurrent states are sums over the whole past, and stay fp32
RESIDUAL_BYTES = Fraction(2)  # the residual stream stays bf16 where matrices are multiplied in fewer bits


def activation_dtype(hardware: RooflineHardware) -> str:
    """Return the type of matrix products: the profile's `activation_dtype`, else the weights' type."""
    return hardware.activation_dtype or hardware.dtype


def expert_dtype(hardware: RooflineHardware) -> str:
    """Return the type that experts are stored in: the profile's `expert_dtype`, else the weights' type."""
    return hardware.expert_dtype or hardware.dtype


def head_dtype(hardware: RooflineHardware) -> str:
    """Return the type of the head's storage and products: the profile's `head_dtype`, else the embedding's type."""
    return hardware.head_dtype or hardware.embedding_dtype


def residual_bytes(hardware: RooflineHardware) -> Fraction:
    """Return the bytes of one number of the residual stream, which the GPUs exchange."""
    return max(RESIDUAL_BYTES, DTYPE_BYTES[activation_dtype(hardware)])


def peak_flop_per_s(hardware: RooflineHardware, dtype: str) -> Fraction:
    """Return the dense peak of one GPU in FLOP/s. fp16 uses bf16's peak if it has none. Raises KeyError without a peak."""
    peaks = hardware.flop_per_s
    return peaks["bf16"] if dtype == "fp16" and "fp16" not in peaks else peaks[dtype]


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
    """Return the bytes of the matrix of an end, embedding or head: in its own type, else in the hardware's type for it."""
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
    """Return the bytes of embedding, head and norm; tied ends share a matrix in the wider type unless their own types differ."""
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


def state_bytes(hardware: RooflineHardware, shape: Shape, alternative: Alternative) -> Fraction:
    """Return the bytes of one sequence's state in one layer on one GPU: the convolution's inputs and the recurrent state."""
    size = state_size(alternative.alone(shape), hardware.gpus)
    return size.conv * residual_bytes(hardware) + size.scan * STATE_BYTES


def sequence_bytes(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload
) -> Fraction:
    """Return the bytes that one sequence keeps in one layer: its KV cache in whole pages, and its state.

    `kv_policy`: with `full`, pages hold its final length, as where the batch runs in lock step or no sequence is evicted; with
    `mean`, its mean length, as where sequences come and go and pages are allocated on demand. A window caps either.
    """
    own = alternative.alone(shape)
    length = work.prompt + (work.output if hardware.kv_policy == "full" else -(-work.output // 2))
    kept = length if own.attended is None else min(length, own.attended)
    tokens = split(kept, hardware.page_tokens) * hardware.page_tokens
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
