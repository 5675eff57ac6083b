"""Cost of a sub-block as a function of the batch, in whole numbers: the roofline's formulas with precomputed coefficients.

On a profile the time of b sequences is `max(read(b), b * compute) + rest + b * slope`; only a mixture of experts
reads more weights for more tokens. The coefficients come from the formulas of `costs.roofline`, so the costs agree to
the nanosecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.weights import Size
from puzzledsl.costs.dtypes import DTYPE_BYTES, activation_dtype, head_dtype
from puzzledsl.costs.flops import Workload, fixed_flop, mean_flop
from puzzledsl.costs.memory import cached_tokens, fixed_bytes, kv_bytes_per_token, weights_bytes
from puzzledsl.costs.parameters import fixed_size
from puzzledsl.costs.roofline import (
    FREE,
    NO_TIME,
    NS_PER_S,
    all_reduce_s,
    attention_scores_s,
    bandwidth,
    kv_read_s,
    matrix_times,
)
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import RooflineHardware, Scenario, Shape
from puzzledsl.ir.tables import Cost


@dataclass(frozen=True, slots=True)
class TimeLine:
    """`ceil((max(read * min(experts, b * touched), b * compute) + rest + b * slope) / unit)` nanoseconds of b sequences.

    A dense sub-block reads all its weights: one expert, touched by any token.
    """

    read: int
    experts: int
    touched: int
    compute: int
    rest: int
    slope: int
    unit: int

    @classmethod
    def of(
        cls, read: Fraction, experts: int, touched: int, others: tuple[Fraction, Fraction, Fraction]
    ) -> TimeLine:
        """From seconds: `read` for each expert; others are `compute`, `rest` and `slope`."""
        times = [NS_PER_S * time for time in (read, *others)]
        unit = lcm(*(time.denominator for time in times))
        first, compute, rest, slope = (int(time * unit) for time in times)
        return cls(first, experts, touched, compute, rest, slope, unit)

    def at(self, batch: int) -> int:
        """Nanoseconds, rounded up."""
        read = self.read * min(self.experts, batch * self.touched)
        total = max(read, batch * self.compute) + self.rest + batch * self.slope
        return -(-total // self.unit)


@dataclass(frozen=True, slots=True)
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
    """The line of one alternative."""
    size, one = alternative.size(shape, hardware.gpus), Workload(1, scenario.prompt, scenario.output)
    heads, window = alternative.cached_heads(shape), alternative.attended(shape)
    scores = attention_scores_s(hardware, shape, window, one) if heads else NO_TIME
    reads = kv_read_s(hardware, shape, heads, window, one) if heads else NO_TIME
    cache = cached_tokens(hardware, window, one) * kv_bytes_per_token(hardware, shape, heads)
    prefill_flop, decode_flop = mean_flop(shape, alternative, one)

    def forward(tokens: int, attention: Fraction) -> TimeLine:
        dtype = activation_dtype(hardware)
        compute = matrix_times(hardware, NO_TIME, size.active, tokens, dtype).total
        start, exchange = all_reduce_s(hardware, shape, 0), all_reduce_s(hardware, shape, tokens)
        others = compute, start + hardware.overhead_s, exchange - start + attention
        experts, of_token = alternative.routing()
        touched = tokens * of_token if experts > 1 else 1
        return TimeLine.of(_read_s(hardware, size) / experts, experts, touched, others)

    return CostLine(
        params=alternative.params(shape),
        weights_bytes=weights_bytes(hardware, size),
        cache_bytes=Fraction(cache),
        prefill=forward(scenario.prompt, scores),
        decode=forward(1, reads),
        prefill_flop=prefill_flop,
        decode_flop=decode_flop,
    )


def _read_s(hardware: RooflineHardware, size: Size) -> Fraction:
    """Seconds to read all matrices."""
    return size.matrices * DTYPE_BYTES[hardware.dtype] / bandwidth(hardware)


def fixed_line(hardware: RooflineHardware, shape: Shape, scenario: Scenario) -> CostLine:
    """Embedding, final norm and head: only each sequence's last position goes through the head."""
    size, dtype = fixed_size(shape, hardware.gpus), head_dtype(hardware)
    read = size.active * DTYPE_BYTES[dtype] / bandwidth(hardware)
    compute = matrix_times(hardware, NO_TIME, size.active, 1, dtype).total
    head = TimeLine.of(read, 1, 1, (compute, NO_TIME, NO_TIME))
    flop = Fraction(fixed_flop(shape, Workload(1, scenario.prompt, scenario.output)))
    return CostLine(facts.fixed_params(shape), fixed_bytes(hardware, shape), NO_TIME, head, head, flop, flop)
