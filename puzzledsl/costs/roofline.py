"""Run times on a hardware profile, analytically, and costs of a scenario there at any batch (`batch(auto, …)`), on demand.

For a forward over n tokens, with P parameters a GPU of b_w bytes each and t GPUs:

    sub-block = max(P * b_w / (BW * eta_m), 2 * P_active * n / (F * eta_c)) + overhead
    decode attention  + batch * mean context * 2 * ceil(kv_heads / t) * head_dim * b_kv / (BW * eta_m)
    prefill attention + 4 * ceil(heads / t) * head_dim * (causal pairs of positions) / (F * eta_a)
    decode state      + batch * 2 * (bytes of a state) / (BW * eta_m)
    prefill state     + n * (FLOP of the recurrence) / (F * eta_a)
    t > 1             + (t - 1) * link_latency + 2 * (t - 1) / t * n * hidden * b_residual / (link * eta_l)

F is the peak of the type that matrices are multiplied in. Of a mixture's experts the expected share of n tokens is read
(`costs.memory`), and their products have an eta_c of their own. A no-op takes no time, its overhead included. The
constants are fitted to published serving figures of Llama models (`benchmarks/published.py`).

A cost depends on the alternative and on the layer's shape, not on its place: a batch needs one cost for each
alternative in each kind of layer, however many layers there are. `shape` is one layer's (`Shape.at`) but for `fixed_line`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from fractions import Fraction
from functools import cached_property
from math import lcm

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.alternatives.parent import (
    PARENT_EMBEDDING,
    PARENT_HEAD,
    PARENTS,
    ParentEmbedding,
    ParentHead,
    stored_apart,
)
from puzzledsl.alternatives.weights import scan_flop, split
from puzzledsl.base.frozen import Record
from puzzledsl.costs.flops import Workload, causal_pairs, fixed_flop, mean_context, mean_flop
from puzzledsl.costs.memory import (
    activation_dtype,
    cache_room,
    end_bytes,
    fixed_bytes,
    head_dtype,
    kv_bytes_per_token,
    largest_batch,
    matrix_bytes,
    peak_flop_per_s,
    residual_bytes,
    sequence_bytes,
    share_read,
    size_on,
    state_bytes,
    weights_bytes,
)
from puzzledsl.ir import facts, tables
from puzzledsl.ir.hardware_nodes import running_costs
from puzzledsl.ir.nodes import EndsChoice, LayerChoice, Program, RooflineHardware, Scenario, Shape, Space

NS_PER_S = 10**9
NO_TIME = Fraction(0)
FREE = tables.Cost(params=0, weights_bytes=0, kv_cache_bytes=0, prefill_ns=0, decode_ns=0)


class Pass(Record, eq=False):
    """A forward pass of b sequences of `tokens` tokens, in seconds.

    `max(read + experts * share(b * tokens), b * compute) + b * (attention + link) + link_start + overhead`, where `experts` is
    the time to read all experts, and `share(n)` the part of them that n tokens read. `routing`: (experts, those of a token).
    """

    read: Fraction
    compute: Fraction
    experts: Fraction = NO_TIME
    attention: Fraction = NO_TIME
    link: Fraction = NO_TIME
    link_start: Fraction = NO_TIME
    overhead: Fraction = NO_TIME
    routing: tuple[int, int] = (1, 1)
    tokens: int = 1

    @cached_property
    def _whole(self) -> tuple[int, ...]:
        """The five times of `ns` as whole numbers of a unit, then the units in a nanosecond: faster to add than fractions."""
        slope, rest = self.attention + self.link, self.link_start + self.overhead
        times = [NS_PER_S * time for time in (self.read, self.experts, self.compute, rest, slope)]
        unit = lcm(*(time.denominator for time in times))
        return (*(int(time * unit) for time in times), unit)

    def ns(self, batch: int) -> int:
        """Return the nanoseconds of a batch, rounded up."""
        read, experts, compute, rest, slope, unit = self._whole
        some, every = share_read(*self.routing, batch * self.tokens) if experts else (0, 1)
        total = max(read * every + experts * some, batch * compute * every)
        return -(-(total + (rest + batch * slope) * every) // (unit * every))


def bandwidth(hardware: RooflineHardware) -> Fraction:
    """Return the memory bandwidth that one GPU reaches, in bytes a second."""
    return hardware.bandwidth_bytes_per_s * hardware.efficiency_bandwidth


def product_s(hardware: RooflineHardware, params: int, tokens: int, dtype: str, chosen: int = 0) -> Fraction:
    """Return the seconds to multiply `tokens` tokens with `params` weights, of which `chosen` belong to experts."""
    peak = peak_flop_per_s(hardware, dtype)
    seconds = 2 * (params - chosen) * tokens / (peak * hardware.efficiency_compute)
    if not chosen:
        return seconds
    share = hardware.efficiency_experts or hardware.efficiency_compute
    return seconds + 2 * chosen * tokens / (peak * share)


def attention_scores_s(
    hardware: RooflineHardware, shape: Shape, heads: int, window: int | None, work: Workload
) -> Fraction:
    """Seconds of the causal score and value products over the prompt: 4 * heads * head_dim FLOP a pair of positions."""
    pairs = work.batch * causal_pairs(work.prompt, window)
    return _mixing_s(hardware, 4 * split(heads, hardware.gpus) * shape.head_dim * pairs)


def _mixing_s(hardware: RooflineHardware, flop: Fraction | int) -> Fraction:
    """Return the seconds of `flop` operations that mix tokens: they reach the share `efficiency_attention` of the peak."""
    peak = peak_flop_per_s(hardware, activation_dtype(hardware))
    return flop / (peak * hardware.efficiency_attention)


def mixing_s(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload
) -> tuple[Fraction, Fraction]:
    """Return the seconds of mixing tokens in a prefill and in a decode step: attention's scores, or a recurrence's state."""
    prefill = decode = NO_TIME
    own = alternative.alone(shape)
    if own.cached_heads:
        prefill = attention_scores_s(hardware, shape, own.query_heads, own.attended, work)
        tokens = work.batch * mean_context(work.prompt, work.output, own.attended)
        one = kv_bytes_per_token(hardware, shape, own.cached_heads, alternative.cache)
        decode = tokens * one / bandwidth(hardware)
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


class CostLine(Record, eq=False):
    """Costs of one sub-block for any batch: `params` and `weights_bytes` are fixed, `cache_bytes` and FLOP of one sequence."""

    params: int
    weights_bytes: int
    cache_bytes: Fraction
    prefill: Pass
    decode: Pass
    prefill_flop: Fraction
    decode_flop: Fraction

    def at(self, batch: int) -> tables.Cost:
        """Return the cost at a batch, its numbers rounded up; FREE for a sub-block without parameters."""
        if not self.params:
            return FREE
        return tables.Cost(
            params=self.params,
            weights_bytes=self.weights_bytes,
            kv_cache_bytes=self.cache_at(batch),
            prefill_ns=self.prefill.ns(batch),
            decode_ns=self.decode.ns(batch),
            prefill_flop=_times(self.prefill_flop, batch),
            decode_flop=_times(self.decode_flop, batch),
        )

    def cache_at(self, batch: int) -> int:
        """Return the bytes of the whole batch's cache, rounded up."""
        return _times(self.cache_bytes, batch)


def _times(one: Fraction, batch: int) -> int:
    """Return `batch * one`, rounded up."""
    return -(-batch * one.numerator // one.denominator)


def line_of(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload | Scenario
) -> CostLine:
    """Return the costs, for any batch, of one alternative in a layer of this shape; only the lengths of `work` are read."""
    size, one = size_on(hardware, shape, alternative), Workload(1, work.prompt, work.output)
    prefill_flop, decode_flop = mean_flop(shape, alternative, one)
    rate, dtype = bandwidth(hardware), activation_dtype(hardware)
    always, experts = matrix_bytes(hardware, size)
    start = all_reduce_s(hardware, shape, 0)

    def forward(tokens: int, mixing: Fraction) -> Pass:
        return Pass(
            read=always / rate,
            compute=product_s(hardware, size.active, tokens, dtype, size.chosen),
            experts=experts / rate,
            attention=mixing,
            link=all_reduce_s(hardware, shape, tokens) - start,
            link_start=start,
            overhead=hardware.overhead_s,
            routing=alternative.alone(shape).routing,
            tokens=tokens,
        )

    prefill, decode = mixing_s(hardware, shape, alternative, one)
    return CostLine(
        params=alternative.params(shape),
        weights_bytes=weights_bytes(hardware, size),
        cache_bytes=Fraction(sequence_bytes(hardware, shape, alternative, one)),
        prefill=forward(work.prompt, prefill),
        decode=forward(1, decode),
        prefill_flop=prefill_flop,
        decode_flop=decode_flop,
    )


def fixed_line(
    hardware: RooflineHardware,
    shape: Shape,
    embedding: ParentEmbedding = PARENT_EMBEDDING,
    head: ParentHead = PARENT_HEAD,
) -> CostLine:
    """Return the costs, for any batch, of embedding, final norm and head in the storage types that a child has.

    Only each sequence's last position goes through the head, in a prefill as in a step. Embeddings take next to no time.
    """
    # the type that the head is multiplied in: that of other quantised matrices if it is quantised
    dtype = head_dtype(hardware) if head.dtype is None else activation_dtype(hardware)
    read = end_bytes(hardware, shape, head) / bandwidth(hardware)
    time = Pass(read, product_s(hardware, size_on(hardware, shape, head).active, 1, dtype))
    flop = Fraction(fixed_flop(shape, Workload(1, 1, 1)))
    stored = fixed_bytes(hardware, shape, embedding, head)
    params = facts.fixed_params(shape, untied=stored_apart(embedding, head, tied=shape.tied))
    return CostLine(params, stored, NO_TIME, time, time, flop, flop)


def sub_block_cost(
    hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload
) -> tables.Cost:
    """Return the cost of one alternative in a layer of this shape, at the batch of `work`."""
    return line_of(hardware, shape, alternative, work).at(work.batch)


Key = tuple[int, str]
"""Kind of layer (`AnyBatch.kinds`) and alternative's name."""


class AnyBatch(Record, eq=False):
    """Costs of a scenario on an analytic profile at any batch, cached. `choice`: the types that the model's ends may have."""

    hardware: RooflineHardware
    shape: Shape
    layers: tuple[LayerChoice, ...]
    scenario: Scenario
    choice: EndsChoice | None = None
    _tables: dict[int, tables.ScenarioCosts] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[int, ...]:
        """The number of each layer's kind; layers of one kind share a shape. Kinds count from 0 in order of their first layer."""
        return self.shape.kind_of_each

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        """Each layer's kind, and its choice by identity: hashing one takes long."""
        return [(kind, id(choice)) for kind, choice in zip(self.kinds, self.layers, strict=True)]

    @cached_property
    def _choices(self) -> dict[tuple[int, int], LayerChoice]:
        """Each distinct one of `_places` with its choice."""
        return dict(zip(self._places, self.layers, strict=True))

    @cached_property
    def lines(self) -> dict[SubBlock, dict[Key, CostLine]]:
        """The costs of every alternative of the space, and of the parent's, in each kind of layer that may have it."""
        return {part: self._lines(part) for part in SUB_BLOCKS}

    def _lines(self, part: SubBlock) -> dict[Key, CostLine]:
        shapes = [shape for shape, _ in self.shape.kinds()]
        pairs = ((kind, a) for (kind, _), choice in self._choices.items() for a in getattr(choice, part))
        parents = ((kind, PARENTS[part]) for kind in range(len(shapes)))
        return {
            (kind, a.name): line_of(self.hardware, shapes[kind], a, self.scenario)
            for kind, a in dict.fromkeys((*pairs, *parents))
        }

    @cached_property
    def ends(self) -> dict[str, CostLine]:
        """The costs of embedding, final norm and head by the names of both (`parent/parent@q4_0`), the parent's among them."""
        known = (self.choice or EndsChoice()).by_name()
        return {name: fixed_line(self.hardware, self.shape, *both) for name, both in known.items()}

    def at(self, batch: int) -> tables.ScenarioCosts:
        """Return the costs at a batch, as a cost table has them. Layers alike in kind and choice share their dictionaries."""
        if batch not in self._tables:
            ends = {name: line.at(batch) for name, line in self.ends.items()}
            self._tables[batch] = tables.ScenarioCosts(
                scenario=self.scenario.name,
                batch=batch,
                prompt=self.scenario.prompt,
                output=self.scenario.output,
                fixed=ends[tables.PARENT_ENDS.name] if self.choice is None else FREE,
                ends={} if self.choice is None else ends,
                reserve_bytes=self.hardware.reserve_bytes,
                attention=self._layers("attention", batch),
                ffn=self._layers("ffn", batch),
                capacity_bytes=self.hardware.memory_bytes,
                kv_fraction=self.hardware.kv_fraction,
                **running_costs(self.hardware),
            )
        return self._tables[batch]

    def _layers(self, part: SubBlock, batch: int) -> tuple[dict[str, tables.Cost], ...]:
        """Return each layer's costs of what it may have, by name."""
        costs = {key: line.at(batch) for key, line in self.lines[part].items()}
        known = {
            place: {a.name: costs[place[0], a.name] for a in getattr(choice.with_parent(), part)}
            for place, choice in self._choices.items()
        }
        return tuple(known[place] for place in self._places)

    def largest(self, child: Sequence[tables.Assignment]) -> int:
        """Return the largest batch at which a model fits, 0 if none. Raises KeyError for an alternative that is not offered."""
        layers = [*zip(self.kinds, tables.layers_of_child(child), strict=True)]
        chosen = {
            part: Counter(self.lines[part][kind, getattr(choice, part)] for kind, choice in layers)
            for part in SUB_BLOCKS
        }
        weights = sum(n * line.weights_bytes for lines in chosen.values() for line, n in lines.items())
        room = cache_room(self.hardware, weights + self.ends[tables.ends_of_child(child).name].weights_bytes)

        def fits(batch: int) -> bool:
            return sum(n * line.cache_at(batch) for line, n in chosen["attention"].items()) <= room

        return largest_batch(self.hardware.max_batch, fits)

    @cached_property
    def reach(self) -> tuple[int, int]:
        """Lower and upper bound on the largest batch of any model of the space (0: the model may fit at no batch)."""
        return self._extreme(max), self._extreme(min)

    def _extreme(self, pick: Callable[[Iterable[int]], int]) -> int:
        """Return the largest batch that fits if each layer has the most weights and cache it may have (`pick` min: the least)."""
        counts, offered = Counter(self._places), (self.choice or EndsChoice()).offered
        each = [(place[0], choice, counts[place]) for place, choice in self._choices.items()]
        weights = pick(self.ends[name].weights_bytes for name in offered) + sum(
            n * pick(self.lines[part][kind, a.name].weights_bytes for a in getattr(choice, part))
            for kind, choice, n in each
            for part in SUB_BLOCKS
        )

        def cache(batch: int) -> int:
            return sum(
                n * pick(self.lines["attention"][kind, a.name].cache_at(batch) for a in choice.attention)
                for kind, choice, n in each
            )

        room = cache_room(self.hardware, weights)
        return largest_batch(self.hardware.max_batch, lambda batch: cache(batch) <= room)


def any_batch(program: Program, space: Space, table: tables.CostTable, scenario: str) -> AnyBatch | None:
    """Return a scenario's costs at any batch if its batch is `auto` on a profile; None if the table lists all its batches."""
    if scenario not in table.auto:
        return None
    here = program.scenarios[scenario]
    spec = program.hardware[here.hardware].spec
    assert isinstance(spec, RooflineHardware), "only a profile has costs at any batch"
    return AnyBatch(spec, program.parents[space.parent].shape, space.layers, here, space.ends)
