"""Run times on a hardware profile, analytically.

For a forward over n tokens, with P parameters a GPU of b_w bytes each and t GPUs:

    sub-block = max(P * b_w / (BW * eta_m), 2 * P_active * n / (F * eta_c)) + overhead
    decode attention  + batch * mean context * 2 * ceil(kv_heads / t) * head_dim * b_kv / (BW * eta_m)
    prefill attention + 4 * ceil(heads / t) * head_dim * (causal pairs of positions) / (F * eta_a)
    decode state      + batch * 2 * (bytes of a state) / (BW * eta_m)
    prefill state     + n * (FLOP of the recurrence) / (F * eta_a)
    t > 1             + (t - 1) * link_latency + 2 * (t - 1) / t * n * hidden * b_residual / (link * eta_l)

F is the peak of the type that matrices are multiplied in. Of a mixture's experts the expected share of n tokens is read
(`costs.mixture`), and their products have an eta_c of their own. A no-op takes no time, its overhead included. The
constants are fitted to published serving figures of Llama models (`benchmarks/published.py`).

`shape` is one layer's (`Shape.at`) but for `fixed_times` and `fixed_cost`.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, lcm

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.ends import (
    PARENT_EMBEDDING,
    PARENT_HEAD,
    ParentEmbedding,
    ParentHead,
    stored_apart,
)
from puzzledsl.alternatives.state import scan_flop
from puzzledsl.alternatives.weights import split
from puzzledsl.base.frozen import record
from puzzledsl.costs.dtypes import activation_dtype, head_dtype, peak_flop_per_s, residual_bytes, share_read
from puzzledsl.costs.flops import Workload, causal_pairs, fixed_flop, mean_context, mean_flop, sub_block_flop
from puzzledsl.costs.memory import (
    end_bytes,
    fixed_bytes,
    kv_bytes_per_token,
    kv_cache_bytes,
    matrix_bytes,
    sequence_bytes,
    size_on,
    state_bytes,
    weights_bytes,
)
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import RooflineHardware, Scenario, Shape
from puzzledsl.ir.tables import Cost

NS_PER_S = 10**9
NO_TIME = Fraction(0)
FREE = Cost(params=0, weights_bytes=0, kv_cache_bytes=0, prefill_ns=0, decode_ns=0)


@record
class Times:
    """Seconds of one forward pass, by cause; matrices count as `weights` or as `matrices`, whichever takes longer."""

    weights: Fraction = NO_TIME
    matrices: Fraction = NO_TIME
    attention: Fraction = (
        NO_TIME  # decode: reading keys and values, or states; prefill: scores and values, or scans
    )
    link: Fraction = NO_TIME
    overhead: Fraction = NO_TIME

    @property
    def total(self) -> Fraction:
        """All of it."""
        return self.weights + self.matrices + self.attention + self.link + self.overhead

    def __add__(self, other: Times) -> Times:
        return Times(
            self.weights + other.weights,
            self.matrices + other.matrices,
            self.attention + other.attention,
            self.link + other.link,
            self.overhead + other.overhead,
        )


def bandwidth(hardware: RooflineHardware) -> Fraction:
    """Bytes a second that are reached."""
    return hardware.bandwidth_bytes_per_s * hardware.efficiency_bandwidth


def matrix_times(
    hardware: RooflineHardware, read_bytes: Fraction, params: int, tokens: int, dtype: str, chosen: int = 0
) -> Times:
    """Times of `tokens` activations by `params` weights, `chosen` of them experts', of which `read_bytes` come from memory."""
    memory, peak = read_bytes / bandwidth(hardware), peak_flop_per_s(hardware, dtype)
    compute = 2 * (params - chosen) * tokens / (peak * hardware.efficiency_compute)
    if chosen:
        share = hardware.efficiency_experts or hardware.efficiency_compute
        compute += 2 * chosen * tokens / (peak * share)
    return Times(weights=memory) if memory >= compute else Times(matrices=compute)


def kv_read_s(
    hardware: RooflineHardware, shape: Shape, kv_heads: int, window: int | None, work: Workload
) -> Fraction:
    """Seconds to read the batch's keys and values in one decode step at the mean context."""
    tokens = work.batch * mean_context(work.prompt, work.output, window)
    return tokens * kv_bytes_per_token(hardware, shape, kv_heads) / bandwidth(hardware)


def attention_scores_s(
    hardware: RooflineHardware, shape: Shape, heads: int, window: int | None, work: Workload
) -> Fraction:
    """Seconds of the causal score and value products over the prompt: 4 * heads * head_dim FLOP a pair of positions."""
    pairs = work.batch * causal_pairs(work.prompt, window)
    return _mixing_s(hardware, 4 * split(heads, hardware.gpus) * shape.head_dim * pairs)


def _mixing_s(hardware: RooflineHardware, flop: Fraction | int) -> Fraction:
    """Seconds of FLOP between tokens, which reach less of the peak than matrices do."""
    peak = peak_flop_per_s(hardware, activation_dtype(hardware))
    return flop / (peak * hardware.efficiency_attention)


def mixing_s(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload
) -> tuple[Fraction, Fraction]:
    """Seconds that tokens take for others in a prefill and in a decode step: attention, or a recurrence and its state."""
    prefill = decode = NO_TIME
    own = alternative.alone(shape)
    if own.cached_heads:
        prefill = attention_scores_s(hardware, shape, own.query_heads, own.attended, work)
        decode = kv_read_s(hardware, shape, own.cached_heads, own.attended, work)
    if flop := scan_flop(own, hardware.gpus):
        prefill += _mixing_s(hardware, flop * work.batch * work.prompt)
    if state := state_bytes(hardware, shape, alternative):
        decode += 2 * work.batch * state / bandwidth(hardware)
    return prefill, decode


def all_reduce_s(hardware: RooflineHardware, shape: Shape, tokens: int) -> Fraction:
    """Seconds of the all-reduce after a sub-block, over a ring: each GPU waits for t - 1 others; 0 on one GPU."""
    hops = hardware.gpus - 1
    if not hops:
        return NO_TIME
    sent = Fraction(2 * hops, hardware.gpus) * tokens * shape.hidden * residual_bytes(hardware)
    rate = hardware.link_bytes_per_s * hardware.efficiency_link
    return hops * hardware.link_latency_s + sent / rate


def sub_block_times(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload
) -> tuple[Times, Times]:
    """One prefill of the batch, and one decode step of it at the mean context."""
    size = size_on(hardware, shape, alternative)
    if not size.params:
        return Times(), Times()
    routing = alternative.alone(shape).routing

    def forward(tokens: int, mixing: Fraction) -> Times:
        # bytes of the matrices that `tokens` tokens read: of a mixture's experts the expected share
        always, experts = matrix_bytes(hardware, size)
        read = always + experts * Fraction(*share_read(*routing, tokens)) if experts else always
        exchange = all_reduce_s(hardware, shape, tokens)
        rest = Times(attention=mixing, link=exchange, overhead=hardware.overhead_s)
        dtype = activation_dtype(hardware)
        return matrix_times(hardware, read, size.active, tokens, dtype, size.chosen) + rest

    prefill, decode = mixing_s(hardware, shape, alternative, work)
    return forward(work.batch * work.prompt, prefill), forward(work.batch, decode)


def fixed_times(
    hardware: RooflineHardware, shape: Shape, work: Workload, head: ParentHead = PARENT_HEAD
) -> Times:
    """The head, of each sequence's last position, in a prefill as in a step; looking up embeddings takes next to no time."""
    size, dtype = size_on(hardware, shape, head), head_product(hardware, head)
    return matrix_times(hardware, end_bytes(hardware, shape, head), size.active, work.batch, dtype)


def head_product(hardware: RooflineHardware, head: ParentHead) -> str:
    """Return the type that the head is multiplied in: that of other quantised matrices if it is quantised."""
    return head_dtype(hardware) if head.dtype is None else activation_dtype(hardware)


def _ns(seconds: Fraction) -> int:
    return ceil(seconds * NS_PER_S)


def sub_block_cost(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload
) -> Cost:
    """The cost of one alternative."""
    size = size_on(hardware, shape, alternative)
    if not size.params:
        return FREE
    prefill, decode = sub_block_times(hardware, shape, alternative, work)
    prefill_flop, decode_flop = sub_block_flop(shape, alternative, work)
    return Cost(
        params=alternative.params(shape),
        weights_bytes=weights_bytes(hardware, size),
        kv_cache_bytes=kv_cache_bytes(hardware, shape, alternative, work),
        prefill_ns=_ns(prefill.total),
        decode_ns=_ns(decode.total),
        prefill_flop=prefill_flop,
        decode_flop=decode_flop,
    )


def fixed_cost(
    hardware: RooflineHardware,
    shape: Shape,
    work: Workload,
    embedding: ParentEmbedding = PARENT_EMBEDDING,
    head: ParentHead = PARENT_HEAD,
) -> Cost:
    """Embedding, final norm and head, in the types of a child."""
    time_ns = _ns(fixed_times(hardware, shape, work, head).total)
    flop = fixed_flop(shape, work)
    return Cost(
        params=facts.fixed_params(shape, untied=stored_apart(embedding, head, tied=shape.tied)),
        weights_bytes=fixed_bytes(hardware, shape, embedding, head),
        kv_cache_bytes=0,
        prefill_ns=time_ns,
        decode_ns=time_ns,
        prefill_flop=flop,
        decode_flop=flop,
    )


@record
class TimeLine:
    """`ceil((max(read + experts * share(b), b * compute) + rest + b * slope) / unit)` nanoseconds of b sequences.

    `share(b)` is the share of a mixture's experts that b sequences of `tokens` tokens read; `experts` is 0 without any.
    """

    read: int
    experts: int
    routing: tuple[int, int]
    tokens: int
    compute: int
    rest: int
    slope: int
    unit: int

    @classmethod
    def of(
        cls,
        reads: tuple[Fraction, Fraction],
        others: tuple[Fraction, Fraction, Fraction],
        routing: tuple[int, int] = (1, 1),
        tokens: int = 1,
    ) -> TimeLine:
        """From seconds: `reads` of what every token needs and of all experts; others are `compute`, `rest` and `slope`."""
        times = [NS_PER_S * time for time in (*reads, *others)]
        unit = lcm(*(time.denominator for time in times))
        read, experts, compute, rest, slope = (int(time * unit) for time in times)
        return cls(read, experts, routing, tokens, compute, rest, slope, unit)

    def at(self, batch: int) -> int:
        """Nanoseconds, rounded up."""
        read, share = share_read(*self.routing, batch * self.tokens) if self.experts else (0, 1)
        total = max(self.read * share + self.experts * read, batch * self.compute * share)
        total += (self.rest + batch * self.slope) * share
        return -(-total // (self.unit * share))


@record
class CostLine:
    """One sub-block: its parameters and weights, and what each sequence of the batch adds. Sums are rounded up."""

    params: int
    weights_bytes: int
    cache_bytes: Fraction
    prefill: TimeLine
    decode: TimeLine
    prefill_flop: Fraction
    decode_flop: Fraction

    def at(self, batch: int) -> Cost:
        """The cost at a batch, as `costs.roofline` has it."""
        if not self.params:
            return FREE
        return Cost(
            params=self.params,
            weights_bytes=self.weights_bytes,
            kv_cache_bytes=self.cache_at(batch),
            prefill_ns=self.prefill.at(batch),
            decode_ns=self.decode.at(batch),
            prefill_flop=_times(self.prefill_flop, batch),
            decode_flop=_times(self.decode_flop, batch),
        )

    def cache_at(self, batch: int) -> int:
        """Bytes of the whole batch's cache."""
        return _times(self.cache_bytes, batch)


def _times(one: Fraction, batch: int) -> int:
    """So many times a fraction, rounded up."""
    return -(-batch * one.numerator // one.denominator)


def line_of(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, scenario: Scenario
) -> CostLine:
    """The line of one alternative in a layer of this shape."""
    size, one = size_on(hardware, shape, alternative), Workload(1, scenario.prompt, scenario.output)
    prefill_flop, decode_flop = mean_flop(shape, alternative, one)
    rate, dtype = bandwidth(hardware), activation_dtype(hardware)
    always, experts = matrix_bytes(hardware, size)

    def forward(tokens: int, mixing: Fraction) -> TimeLine:
        compute = matrix_times(hardware, NO_TIME, size.active, tokens, dtype, size.chosen).total
        start, exchange = all_reduce_s(hardware, shape, 0), all_reduce_s(hardware, shape, tokens)
        others = compute, start + hardware.overhead_s, exchange - start + mixing
        return TimeLine.of((always / rate, experts / rate), others, alternative.alone(shape).routing, tokens)

    prefill, decode = mixing_s(hardware, shape, alternative, one)
    return CostLine(
        params=alternative.params(shape),
        weights_bytes=weights_bytes(hardware, size),
        cache_bytes=Fraction(sequence_bytes(hardware, shape, alternative, one)),
        prefill=forward(scenario.prompt, prefill),
        decode=forward(1, decode),
        prefill_flop=prefill_flop,
        decode_flop=decode_flop,
    )


def fixed_line(
    hardware: RooflineHardware,
    shape: Shape,
    scenario: Scenario,
    embedding: ParentEmbedding = PARENT_EMBEDDING,
    head: ParentHead = PARENT_HEAD,
) -> CostLine:
    """Embedding, final norm and head: only each sequence's last position goes through the head."""
    active, dtype = size_on(hardware, shape, head).active, head_product(hardware, head)
    read = end_bytes(hardware, shape, head) / bandwidth(hardware)
    compute = matrix_times(hardware, NO_TIME, active, 1, dtype).total
    time = TimeLine.of((read, NO_TIME), (compute, NO_TIME, NO_TIME))
    flop = Fraction(fixed_flop(shape, Workload(1, scenario.prompt, scenario.output)))
    stored = fixed_bytes(hardware, shape, embedding, head)
    params = facts.fixed_params(shape, untied=stored_apart(embedding, head, tied=shape.tied))
    return CostLine(params, stored, NO_TIME, time, time, flop, flop)
