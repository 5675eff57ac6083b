"""An analytic cost of a sub-block on a GPU: the larger of reading its weights and multiplying by them, and
what comes on top.

    time = max(weight bytes / bandwidth, 2 * params * tokens / FLOP rate) + overhead
         + reading the KV cache (decode) or the attention scores (prefill) + all-reduce (several GPUs)

Times are seconds as exact fractions and become whole nanoseconds, rounded up; sizes are bytes on one GPU.
The efficiencies and the overhead of a profile were fitted to published serving figures of Llama models.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from puzzledsl.cost.parameters import Size, fixed_size, kv_heads_of, size_of, split
from puzzledsl.ir import facts
from puzzledsl.ir.alternatives import Alternative, GqaAttention, MoeFfn
from puzzledsl.ir.nodes import RooflineHardware, Shape
from puzzledsl.ir.tables import Cost

NS_PER_S = 10**9
ACTIVATION_BYTES = 2  # what the all-reduce carries: bf16

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
}
FREE = Cost(params=0, weights_bytes=0, kv_cache_bytes=0, prefill_ns=0, decode_ns=0)


@dataclass(frozen=True, slots=True)
class Workload:
    """A scenario at one batch size: `batch` sequences of `prompt` tokens, each continued by `output`
    tokens."""

    batch: int
    prompt: int
    output: int


def peak_flop_per_s(hardware: RooflineHardware, dtype: str) -> Fraction:
    """Dense peak of one GPU. fp16 runs at bf16's rate where only that is known. Raises KeyError for a dtype
    without a peak."""
    peaks = hardware.flop_per_s
    return peaks["bf16"] if dtype == "fp16" and "fp16" not in peaks else peaks[dtype]


def matrix_s(hardware: RooflineHardware, read: Fraction, params: int, tokens: int, dtype: str) -> Fraction:
    """Seconds to multiply `tokens` activations by `params` weights of which `read` bytes come from memory."""
    memory = read / (hardware.bandwidth_bytes_per_s * hardware.efficiency_bandwidth)
    compute = 2 * params * tokens / (peak_flop_per_s(hardware, dtype) * hardware.efficiency_compute)
    return max(memory, compute)


def kv_bytes_per_token(hardware: RooflineHardware, shape: Shape, kv_heads: int) -> Fraction:
    """Keys and values of one token in one layer on one GPU; fewer heads than GPUs are replicated."""
    return 2 * split(kv_heads, hardware.gpus) * shape.head_dim * DTYPE_BYTES[hardware.kv_dtype]


def kv_cache_bytes(
    hardware: RooflineHardware, shape: Shape, kv_heads: int, window: int | None, work: Workload
) -> int:
    """The whole batch's cache at full length, in whole pages; a window caps the length."""
    length = work.prompt + work.output
    tokens = length if window is None else min(length, window)
    pages = split(tokens, hardware.page_tokens) * hardware.page_tokens
    return ceil(work.batch * pages * kv_bytes_per_token(hardware, shape, kv_heads))


def mean_context(prompt: int, output: int, window: int | None) -> Fraction:
    """Mean tokens a generated token attends to: prompt + output / 2, or less where a window cuts it off."""
    if window is None or window >= prompt + output:
        return prompt + Fraction(output, 2)
    if window <= prompt:
        return Fraction(window)
    growing = window - prompt  # steps before the window is full
    return (growing * (prompt + Fraction(growing, 2)) + (output - growing) * window) / output


def kv_read_s(
    hardware: RooflineHardware, shape: Shape, kv_heads: int, window: int | None, work: Workload
) -> Fraction:
    """Seconds to read the batch's keys and values in one decode step at the mean context."""
    tokens = work.batch * mean_context(work.prompt, work.output, window)
    rate = hardware.bandwidth_bytes_per_s * hardware.efficiency_bandwidth
    return tokens * kv_bytes_per_token(hardware, shape, kv_heads) / rate


def attention_scores_s(
    hardware: RooflineHardware, shape: Shape, window: int | None, work: Workload
) -> Fraction:
    """Seconds of the causal score and value products over the prompt: 4 * heads * head_dim FLOP a pair of
    positions."""
    span = work.prompt if window is None else min(work.prompt, window)
    pairs = work.batch * (Fraction(span * span, 2) + (work.prompt - span) * span)
    flop = 4 * split(shape.heads, hardware.gpus) * shape.head_dim * pairs
    return flop / (peak_flop_per_s(hardware, hardware.dtype) * hardware.efficiency_attention)


def all_reduce_s(hardware: RooflineHardware, shape: Shape, tokens: int) -> Fraction:
    """Seconds of the ring all-reduce after a sub-block; 0 on one GPU."""
    if hardware.gpus == 1:
        return Fraction(0)
    sent = Fraction(2 * (hardware.gpus - 1), hardware.gpus) * tokens * shape.hidden * ACTIVATION_BYTES
    return hardware.link_latency_s + sent / (hardware.link_bytes_per_s * hardware.efficiency_link)


def weights_bytes(hardware: RooflineHardware, size: Size) -> int:
    """Matrices in the weight dtype, norms and biases in the embedding's."""
    vectors = size.vectors * DTYPE_BYTES[hardware.embedding_dtype]
    return ceil(size.matrices * DTYPE_BYTES[hardware.dtype] + vectors)


def _read_bytes(hardware: RooflineHardware, size: Size, alternative: Alternative, tokens: int) -> Fraction:
    if not isinstance(alternative, MoeFfn):
        return size.matrices * DTYPE_BYTES[hardware.dtype]
    touched = Fraction(min(alternative.experts, tokens * alternative.top_k), alternative.experts)
    return size.matrices * touched * DTYPE_BYTES[hardware.dtype]


def _ns(seconds: Fraction) -> int:
    return ceil(seconds * NS_PER_S)


def sub_block_cost(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload
) -> Cost:
    """The cost of one alternative. A no-op is free, its overhead included."""
    size = size_of(shape, alternative, hardware.gpus)
    if not size.params:
        return FREE

    def forward_s(tokens: int) -> Fraction:
        read = _read_bytes(hardware, size, alternative, tokens)
        time = matrix_s(hardware, read, size.active, tokens, hardware.dtype)
        return time + hardware.overhead_s + all_reduce_s(hardware, shape, tokens)

    prefill, decode, cache = (forward_s(work.batch * work.prompt), forward_s(work.batch), 0)
    if kv_heads := kv_heads_of(shape, alternative):
        window = alternative.window if isinstance(alternative, GqaAttention) else None
        prefill += attention_scores_s(hardware, shape, window, work)
        decode += kv_read_s(hardware, shape, kv_heads, window, work)
        cache = kv_cache_bytes(hardware, shape, kv_heads, window, work)
    return Cost(
        params=facts.params(alternative, shape),
        weights_bytes=weights_bytes(hardware, size),
        kv_cache_bytes=cache,
        prefill_ns=_ns(prefill),
        decode_ns=_ns(decode),
    )


def fixed_cost(hardware: RooflineHardware, shape: Shape, work: Workload) -> Cost:
    """Embedding, final norm and head, in the embedding's dtype. Only each sequence's last position goes
    through the head."""
    size, width = (fixed_size(shape, hardware.gpus), DTYPE_BYTES[hardware.embedding_dtype])
    head = matrix_s(hardware, size.active * width, size.active, work.batch, hardware.embedding_dtype)
    return Cost(
        params=facts.fixed_params(shape),
        weights_bytes=ceil(size.params * width),
        kv_cache_bytes=0,
        prefill_ns=_ns(head),
        decode_ns=_ns(head),
    )
