"""Cost of a sub-block as a function of the batch, in whole numbers: the roofline's formulas with precomputed coefficients.

On a profile the time of b sequences is `max(read(b), b * compute) + rest + b * slope`; only a mixture of experts
reads more weights for more tokens: the expected share of its experts (`costs.mixture`). The coefficients come from the
formulas of `costs.roofline`, so the costs agree to the nanosecond.
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.ends import (
    PARENT_EMBEDDING,
    PARENT_HEAD,
    ParentEmbedding,
    ParentHead,
    stored_apart,
)
from puzzledsl.base.frozen import record
from puzzledsl.costs.dtypes import activation_dtype, share_read
from puzzledsl.costs.flops import Workload, fixed_flop, mean_flop
from puzzledsl.costs.memory import (
    end_bytes,
    fixed_bytes,
    matrix_bytes,
    sequence_bytes,
    size_on,
    weights_bytes,
)
from puzzledsl.costs.roofline import (
    FREE,
    NO_TIME,
    NS_PER_S,
    all_reduce_s,
    bandwidth,
    head_product,
    matrix_times,
    mixing_s,
)
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import RooflineHardware, Scenario, Shape
from puzzledsl.ir.tables import Cost


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
        return TimeLine.of((always / rate, experts / rate), others, alternative.routing(shape), tokens)

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
