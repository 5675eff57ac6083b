"""Values of a scenario's metrics, from the costs of a model and the records of `ir.metric_records`; and those of traffic.

Every metric but throughput and `max_rate` is linear: a constant plus whole numbers of each `Cost`, times a unit.

Traffic is continuous batching in steady state, as a fluid. With n sequences running, n requests end in the time of n prompts,
one after another, and of `output` decode steps of n: C(n) = n * prefill + output * step(n). The load is sustained at n if
rate * C(n) <= n; the least such n runs. With more sequences, a step takes no less time and a sequence's share of it no more, so
that n + 1 sequences sustain every rate that n sustain.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from operator import attrgetter

from puzzledsl.base.frozen import Record
from puzzledsl.base.queueing import most_arrivals, most_load
from puzzledsl.ir import metric_records
from puzzledsl.ir.nodes import Program, Scenario
from puzzledsl.ir.tables import answers
from puzzledsl.ir.tables.summed import Cost, CostTable, ScenarioCosts

NS_PER_S = 10**9
LOADS: tuple[metric_records.Load, ...] = ("p95", "full")


def running(listed: Sequence[ScenarioCosts], scenario: Scenario) -> tuple[ScenarioCosts, ...]:
    """Return the costs at 1, 2, …, `at_most` running sequences; step times lie on lines through those of the `listed` batches."""
    traffic = scenario.traffic
    assert traffic is not None
    known = dict[tuple[int, ...], tuple[Cost, ...]]()

    def series(costs: Sequence[Cost]) -> tuple[Cost, ...]:
        key = tuple(map(id, costs))
        if key not in known:
            known[key] = _series(costs, [each.batch for each in listed], traffic.at_most)
        return known[key]

    def tables(
        part: Callable[[ScenarioCosts], Sequence[Mapping[str, Cost]]],
    ) -> list[tuple[dict[str, Cost], ...]]:
        found, shared = list[list[dict[str, Cost]]](), dict[tuple[int, ...], list[dict[str, Cost]]]()
        for same in zip(*map(part, listed), strict=True):
            key = tuple(map(id, same))
            if key not in shared:
                each = {name: series([table[name] for table in same]) for name in same[0]}
                shared[key] = [{name: s[n] for name, s in each.items()} for n in range(traffic.at_most)]
            found.append(shared[key])
        return list(zip(*found, strict=True)) or [()] * traffic.at_most

    first, fixed = listed[0], series([each.fixed for each in listed])
    parts = {name: tables(attrgetter(name)) for name in ("attention", "ffn", "pairs")}
    ends = tables(lambda at: [at.ends])
    return tuple(
        first.model_copy(
            update={
                **{name: of[n] for name, of in parts.items()},
                "batch": n + 1,
                "fixed": fixed[n],
                "ends": ends[n][0],
                "rate": traffic.rate,
                "capacity_bytes": None,
                "kv_fraction": Fraction(1),
            }
        )
        for n in range(traffic.at_most)
    )


def _series(costs: Sequence[Cost], batches: Sequence[int], most: int) -> tuple[Cost, ...]:
    """Return a sub-block's costs at 1 to `most` sequences, from those at `batches`: one prompt's prefill, the cache of `most`."""
    steps, last = _steps([cost.decode_ns for cost in costs], batches, most), costs[-1]
    update = {
        "prefill_ns": -(-costs[0].prefill_ns // batches[0]),
        "kv_cache_bytes": -(-last.kv_cache_bytes * most // batches[-1]),
        "prefill_flop": 0,
        "decode_flop": 0,
    }
    own = costs[0].model_copy(update=update)
    return tuple(own.model_copy(update={"decode_ns": step}) for step in steps)


def _steps(times: Sequence[int], batches: Sequence[int], most: int) -> list[int]:
    """Return the step times of 1 to `most` sequences in ns, smoothed: they never fall, nor rise faster than their number.

    Measured times break this by chance. Raising each time that does would add up to a fifth of a step of SmolLM2 in llama.cpp.
    So neighbours take their mean: first where a sequence's share of its step rises, then where a step falls.
    """
    ends = [*pairwise(zip(batches, times, strict=True))] or [((0, times[0]), (batches[0], times[0]))]
    found = list[float]()
    for n in range(1, most + 1):
        (low, before), (high, after) = next((pair for pair in ends if n <= pair[1][0]), ends[-1])
        found.append(before + (after - before) * (n - low) / (high - low))
    shares = _falling([step / n for n, step in enumerate(found, 1)])
    steps = [round(-step) for step in _falling([-share * n for n, share in enumerate(shares, 1)])]
    for n in range(most - 1, 0, -1):  # what rounding left
        steps[n - 1] = max(steps[n - 1], -(-steps[n] * n // (n + 1)))
    return steps


def _falling(values: Sequence[float]) -> list[float]:
    """Return the nearest numbers that never rise: isotonic regression by pooling neighbours (Ayer et al. 1955)."""
    pools = list[tuple[float, int]]()  # mean and length
    for value in values:
        length = 1
        while pools and pools[-1][0] < value:
            mean, more = pools.pop()
            value = (mean * more + value * length) / (more + length)
            length += more
        pools.append((value, length))
    return [value for value, length in pools for _ in range(length)]


class Pace(Record):
    """Constraint for `batch` sequences to sustain traffic: the sum of `of` over a model's costs is at most `limit`, in ns."""

    batch: int
    output: int
    limit: int

    def of(self, cost: Cost) -> int:
        """Return the time in ns of `batch` requests in the sub-block of this cost: their prompts, then all decode steps."""
        return self.batch * cost.prefill_ns + self.output * cost.decode_ns


def pace_of(costs: ScenarioCosts) -> Pace:
    """Return the time limit for a sustained rate; at load `p95` it is lower: 5 % of requests at most find all `batch` running."""
    assert costs.rate is not None
    load = most_load(costs.batch) if costs.load == "p95" else Fraction(costs.batch)
    return Pace(costs.batch, costs.output, int(load * NS_PER_S / costs.rate))


def traffic_metrics(costs: ScenarioCosts) -> dict[str, tuple[Callable[[Cost], int], Fraction]]:
    """Return the times of traffic at n running sequences, by metric: a function that gives a cost's whole number, and its unit.

    A token takes a step, and its share of the prompts of the n - 1 others. A first token takes its prompt and one and a half
    such tokens. At the 95th percentile it takes two steps: the one in progress, likely a long one, with a prompt, and the one
    with its own prompt; and the prompts that start in both, n / output a step in the mean.
    """
    assert costs.rate is not None
    n, output = costs.batch, costs.output
    prompts = 2 + most_arrivals(2 * n / output)

    def tokens(cost: Cost) -> int:
        return (n - 1) * cost.prefill_ns + output * cost.decode_ns

    def first(cost: Cost) -> int:
        return 2 * output * cost.prefill_ns + 3 * tokens(cost)

    def late(cost: Cost) -> int:
        return prompts * cost.prefill_ns + 2 * cost.decode_ns

    whole = pace_of(costs).of
    return {
        "latency": (whole, metric_records.NANOSECOND),
        "utilisation": (whole, metric_records.NANOSECOND * costs.rate / n),
        "tpot": (tokens, metric_records.NANOSECOND / output),
        "p95_tpot": (tokens, metric_records.NANOSECOND / output),
        "ttft": (first, metric_records.NANOSECOND / (2 * output)),
        "p95_ttft": (late, metric_records.NANOSECOND),
    }


def figures_of(costs: ScenarioCosts, linear: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Return the metrics of traffic at the load of `costs`, from the values of all linear ones; `full` has `max_rate`, too."""
    known = metric_records.metrics_under(traffic=True).items()
    found = {name: linear[name] for name, metric in known if metric.load == costs.load and name in linear}
    if costs.load == "full":
        found["max_rate"] = costs.batch / linear["latency"] if linear["latency"] else Fraction(0)
    return found


def loads_of(listed: Sequence[ScenarioCosts]) -> tuple[tuple[ScenarioCosts, ...], ...]:
    """Return the costs of traffic for each of LOADS: at every number of running sequences for `p95`, at the most for `full`."""
    return tuple(
        tuple(each.model_copy(update={"load": load}) for each in (listed[-1:] if load == "full" else listed))
        for load in LOADS
    )


def with_loads(table: CostTable) -> CostTable:
    """Return the table with two more scenarios for each one under traffic: of `busy`, `busy@p95` and `busy@full`."""
    found = dict(table.scenarios)
    for name, listed in table.scenarios.items():
        if listed and listed[0].rate is not None:
            found |= {f"{name}@{load}": own for load, own in zip(LOADS, loads_of(listed), strict=True)}
    return table.model_copy(update={"scenarios": found})


def filled(program: Program, table: CostTable) -> CostTable:
    """Return the table with costs at 1 to `at_most` sequences, at the program's rates, for each scenario under traffic."""
    found = dict(table.scenarios)
    for name, listed in table.scenarios.items():
        scenario = program.scenarios.get(name)
        if scenario is not None and scenario.traffic is not None and listed:
            found[name] = running(listed, scenario)
    return table.model_copy(update={"scenarios": found})


class LinearMetric(Record):
    """The linear form `unit * (constant + sum of of(cost))` over the costs of a model, in base units."""

    of: Callable[[Cost], int]
    unit: Fraction = Fraction(1)
    constant: int = 0

    def total(self, costs: Sequence[Cost]) -> Fraction:
        """Return the metric of a model with these costs."""
        return self.unit * (self.constant + sum(map(self.of, costs)))


def linear_metrics(costs: ScenarioCosts) -> dict[str, LinearMetric]:
    """Return a scenario's linear metrics at one batch, except those that need a price or a power; the batch is a constant."""
    found = {
        name: LinearMetric(
            _summed(metric.of_costs, costs.output),
            metric.scale,
            getattr(costs, metric.constant) if metric.constant else 0,
        )
        for name in metric_records.TERMS
        if (metric := metric_records.METRICS[name]).of_costs or metric.constant
    }
    if costs.rate is not None:
        found |= {name: LinearMetric(*of) for name, of in traffic_metrics(costs).items()}
    return found


def _summed(
    fields: Mapping[metric_records.CostField, metric_records.Often], output: int
) -> Callable[[Cost], int]:
    """Return the function that adds these fields of a cost, those "per output" `output` times."""
    match [(attrgetter(name), 1 if often == "once" else output) for name, often in fields.items()]:
        case []:
            return lambda cost: 0
        case [(only, 1)]:
            return only
        case [(first, 1), (second, times)]:
            return lambda cost: first(cost) + times * second(cost)
        case parts:
            return lambda cost: sum(times * of(cost) for of, times in parts)


class Room(Record):
    """Memory constraint: the sum of `of` over a model's costs <= `limit`: KV cache <= share * (capacity - reserve - weights)."""

    share: Fraction
    limit: int

    def of(self, cost: Cost) -> int:
        """Return the part of the limit that one cost takes."""
        return self.share.denominator * cost.kv_cache_bytes + self.share.numerator * cost.weights_bytes


def room_of(costs: ScenarioCosts) -> Room | Pace | None:
    """Return the memory constraint of an `auto` batch, or the pace that sustains traffic; None for a given batch."""
    if costs.rate is not None:
        return pace_of(costs)
    if costs.capacity_bytes is None:
        return None
    share = costs.kv_fraction
    return Room(share, share.numerator * (costs.capacity_bytes - costs.reserve_bytes))


def fits(costs: ScenarioCosts, layers: Sequence[answers.Assignment]) -> bool:
    """Return True if the batch is given, or if a model fits the memory, or sustains traffic, at it. Raises as `metrics_of`."""
    room = room_of(costs)
    return room is None or sum(map(room.of, chosen_costs(costs, layers))) <= room.limit


def costs_of_layer(costs: ScenarioCosts, layer: int, choice: answers.LayerAssignment) -> tuple[Cost, ...]:
    """Return the costs that add up to one layer's: the pair's if listed, else its sub-blocks'. Raises KeyError without any."""
    pair = costs.pairs[layer].get(f"{choice.attention}/{choice.ffn}") if costs.pairs else None
    if pair is not None:
        return (pair,)
    return costs.attention[layer][choice.attention], costs.ffn[layer][choice.ffn]


def costs_of_ends(costs: ScenarioCosts, choice: answers.EndsAssignment) -> Cost:
    """Return the cost of embedding, final norm and head. Raises KeyError for a choice that is not in the table."""
    if not costs.ends and choice == answers.PARENT_ENDS:
        return costs.fixed
    return costs.ends[choice.name]


def chosen_costs(costs: ScenarioCosts, child: Sequence[answers.Assignment]) -> Iterator[Cost]:
    """Yield the costs that add up to a model: its ends' (the parent's if not chosen), its layers'. Raises as `metrics_of`."""
    layers = answers.layers_of_child(child)
    if len(layers) != len(costs.attention):
        raise ValueError(f"{len(layers)} layers are chosen, the table has {len(costs.attention)}")
    yield costs_of_ends(costs, answers.ends_of_child(child))
    for index, choice in enumerate(layers):
        yield from costs_of_layer(costs, index, choice)


def own_costs(listed: Sequence[ScenarioCosts], layers: Sequence[answers.Assignment]) -> ScenarioCosts:
    """Return the costs at the largest batch at which a model fits, the first of `listed` if it fits at none.

    Under traffic, at the fewest sequences that sustain the rate, the last of `listed` if none do.
    """
    fitting = [costs for costs in listed if fits(costs, layers)]
    if listed[0].rate is not None:
        return [*fitting, listed[-1]][0]
    return [listed[0], *fitting][-1]


def whole_metrics(
    listed: Sequence[ScenarioCosts], layers: Sequence[answers.Assignment], at: ScenarioCosts
) -> dict[str, Fraction]:
    """Return a model's metrics at `at`, one of the batches `listed`; under traffic with the figures of the other LOADS."""
    found = metrics_of(at, layers)
    if at.rate is not None:
        for each in loads_of(listed):
            found |= metrics_of(own_costs(each, layers), layers)
    return found


def metrics_of(costs: ScenarioCosts, layers: Sequence[answers.Assignment]) -> dict[str, Fraction]:
    """Return a model's exact metrics in base units: bytes, seconds, tokens per second, FLOP, dollars and joules where stated.

    Throughput is 0 if nothing takes time. Raises KeyError for an alternative without costs, ValueError for a wrong layer count.
    """
    chosen = list(chosen_costs(costs, layers))
    found = {name: metric.total(chosen) for name, metric in linear_metrics(costs).items()}
    latency = found["latency"]
    if costs.rate is not None:
        found = figures_of(costs, found)
        if costs.load != "full":
            return found
    else:
        found["throughput"] = costs.batch * costs.output / latency if latency else Fraction(0)
    token_s = latency / (costs.batch * costs.output)
    for metric in metric_records.METRICS.values():
        if metric.needs and (stated := getattr(costs, metric_records.STATED[metric.needs])) is not None:
            found[metric.name] = metric.tokens * stated * token_s
    return found
