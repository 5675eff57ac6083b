"""Values of a scenario's metrics, from the costs of a model and the records of `ir.metric_records`.

Every metric but throughput is linear: a constant plus whole numbers of each `Cost`, times a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from operator import attrgetter
from typing import TYPE_CHECKING

from puzzledsl.base.frozen import record
from puzzledsl.costs.traffic import Pace, figures_of, loads_of, pace_of, traffic_metrics
from puzzledsl.ir.metric_records import METRICS, STATED, TERMS, CostField, Often
from puzzledsl.ir.tables.answers import PARENT_ENDS, ends_of_child, layers_of_child

if TYPE_CHECKING:
    from puzzledsl.ir.tables import Assignment, Cost, EndsAssignment, LayerAssignment, ScenarioCosts


@record
class LinearMetric:
    """The linear form `unit * (constant + sum of of(cost))` over the costs of a model, in base units."""

    of: Callable[[Cost], int]
    unit: Fraction = Fraction(1)
    constant: int = 0

    def total(self, costs: Sequence[Cost]) -> Fraction:
        """Return the metric of a model with these costs."""
        return self.unit * (self.constant + sum(map(self.of, costs)))


def linear_metrics(costs: ScenarioCosts) -> dict[str, LinearMetric]:
    """Return every metric of a scenario at one batch that is linear and needs nothing stated; the batch is a constant."""
    found = {
        name: LinearMetric(
            _summed(metric.of_costs, costs.output),
            metric.scale,
            getattr(costs, metric.constant) if metric.constant else 0,
        )
        for name in TERMS
        if (metric := METRICS[name]).of_costs or metric.constant
    }
    if costs.rate is not None:
        found |= {name: LinearMetric(*of) for name, of in traffic_metrics(costs).items()}
    return found


def _summed(fields: Mapping[CostField, Often], output: int) -> Callable[[Cost], int]:
    """Return the function that adds these fields of a cost."""
    match [(attrgetter(name), 1 if often == "once" else output) for name, often in fields.items()]:
        case []:
            return lambda cost: 0
        case [(only, 1)]:
            return only
        case [(first, 1), (second, times)]:
            return lambda cost: first(cost) + times * second(cost)
        case parts:
            return lambda cost: sum(times * of(cost) for of, times in parts)


@record
class Room:
    """Sum of `of` over a model's costs, at most `limit`: `kv_cache <= kv_fraction * (capacity - reserve - weights)`."""

    share: Fraction
    limit: int

    def of(self, cost: Cost) -> int:
        """Return the part of the limit that one cost takes."""
        return self.share.denominator * cost.kv_cache_bytes + self.share.numerator * cost.weights_bytes


def room_of(costs: ScenarioCosts) -> Room | Pace | None:
    """Return the memory constraint of an `auto` batch, or the time in which traffic is sustained; None for a given batch."""
    if costs.rate is not None:
        return pace_of(costs)
    if costs.capacity_bytes is None:
        return None
    share = costs.kv_fraction
    return Room(share, share.numerator * (costs.capacity_bytes - costs.reserve_bytes))


def fits(costs: ScenarioCosts, layers: Sequence[Assignment]) -> bool:
    """Return True if the batch is given, or if a model fits the memory, or sustains traffic, at it. Raises as `metrics_of`."""
    room = room_of(costs)
    return room is None or sum(map(room.of, chosen_costs(costs, layers))) <= room.limit


def costs_of_layer(costs: ScenarioCosts, layer: int, choice: LayerAssignment) -> tuple[Cost, ...]:
    """Return the costs that add up to one layer's: the pair's if listed, else its sub-blocks'. Raises KeyError without any."""
    pair = costs.pairs[layer].get(f"{choice.attention}/{choice.ffn}") if costs.pairs else None
    if pair is not None:
        return (pair,)
    return costs.attention[layer][choice.attention], costs.ffn[layer][choice.ffn]


def costs_of_ends(costs: ScenarioCosts, choice: EndsAssignment) -> Cost:
    """Return the cost of embedding, final norm and head. Raises KeyError for a choice that is not in the table."""
    if not costs.ends and choice == PARENT_ENDS:
        return costs.fixed
    return costs.ends[choice.name]


def chosen_costs(costs: ScenarioCosts, child: Sequence[Assignment]) -> Iterator[Cost]:
    """Yield the costs that add up to a model: of its ends, or the parent's, then of each layer. Raises KeyError, ValueError."""
    layers = layers_of_child(child)
    if len(layers) != len(costs.attention):
        raise ValueError(f"{len(layers)} layers are chosen, the table has {len(costs.attention)}")
    yield costs_of_ends(costs, ends_of_child(child))
    for index, choice in enumerate(layers):
        yield from costs_of_layer(costs, index, choice)


def own_costs(listed: Sequence[ScenarioCosts], layers: Sequence[Assignment]) -> ScenarioCosts:
    """Return the costs at a model's own batch: the largest that fits; under traffic the least that sustains the rate."""
    fitting = [costs for costs in listed if fits(costs, layers)]
    if listed[0].rate is not None:
        return [*fitting, listed[-1]][0]
    return [listed[0], *fitting][-1]


def whole_metrics(
    listed: Sequence[ScenarioCosts], layers: Sequence[Assignment], at: ScenarioCosts
) -> dict[str, Fraction]:
    """Return a model's metrics at `at`, one of a scenario's batches; under traffic at its other numbers of sequences, too."""
    found = metrics_of(at, layers)
    if at.rate is not None:
        for each in loads_of(listed):
            found |= metrics_of(own_costs(each, layers), layers)
    return found


def metrics_of(costs: ScenarioCosts, layers: Sequence[Assignment]) -> dict[str, Fraction]:
    """Return a model's exact metrics in base units: bytes, seconds, tokens per second, FLOP, dollars and joules where stated.

    Throughput is 0 if nothing takes time. Raises KeyError for an alternative that is not in the table, ValueError for
    a wrong number of layers.
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
    for metric in METRICS.values():
        if metric.needs and (stated := getattr(costs, STATED[metric.needs])) is not None:
            found[metric.name] = metric.tokens * stated * token_s
    return found
