"""Metrics of a scenario: their single definition, shared by cost reports, searches and proofs.

Every metric but throughput is linear: a constant plus one whole number for each `Cost`, times a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from puzzledsl.base.units import BYTES, COUNT, DOLLARS, ENERGY, FLOPS, TIME, TOK_PER_S, Dimension

if TYPE_CHECKING:
    from puzzledsl.ir.nodes import MeasuredHardware, RooflineHardware
    from puzzledsl.ir.tables import Cost, LayerAssignment, ScenarioCosts

NANOSECOND = Fraction(1, 10**9)
MTOK = 10**6


@dataclass(frozen=True, slots=True)
class Measure:
    """An amount with a name: a metric of a scenario or the type of a parameter. Text and truth have no dimension."""

    doc: str
    dimension: Dimension | None = None


MEASURES: dict[str, Measure] = {
    "memory": Measure("Bytes on each GPU: the runtime's reserve + `weights` + `kv_cache`.", BYTES),
    "weights": Measure("Bytes of parameters on each GPU, embedding and head included.", BYTES),
    "kv_cache": Measure(
        "Bytes of keys and values on each GPU for the whole batch at full length (prompt + output).", BYTES
    ),
    "latency": Measure("Seconds for one batch, prompt and all outputs: `ttft + output * tpot`.", TIME),
    "ttft": Measure("Time to first token: one forward pass over the batch's prompts.", TIME),
    "tpot": Measure(
        "Time per output token: one decode step of the whole batch, at the mean context length.", TIME
    ),
    "throughput": Measure(
        "Generated tokens a second over all sequences: `batch * output / latency`.", TOK_PER_S
    ),
    "flops": Measure("Floating-point operations of one batch, prompt and all outputs.", FLOPS),
    "cost_per_mtok": Measure(
        "Dollars for a million generated tokens, at the `price` of the hardware: `1_000_000 * price / throughput`.",
        DOLLARS,
    ),
    "joules_per_tok": Measure(
        "Energy of a generated token, at the `power` of the hardware: `power / throughput`.", ENERGY
    ),
    "batch": Measure(
        "Sequences in one batch: a constant, or what the search decides where there are several or `auto`.",
        COUNT,
    ),
}
"""Figures of `SCENARIO.METRIC`. Sizes and times are per GPU; tokens per second and FLOP cover all GPUs."""
RUNNING = ("cost_per_mtok", "joules_per_tok")
"""Metrics that rest on the price and the power of a hardware: multiples of the latency."""
FIGURES: dict[str, Dimension] = {
    name: metric.dimension for name, metric in MEASURES.items() if metric.dimension is not None
}
"""Metric -> dimension, for `SCENARIO.METRIC`."""
METRICS: dict[str, Dimension] = {name: unit for name, unit in FIGURES.items() if name not in RUNNING}
"""Those that every scenario has, and that a search's terms are of."""


@dataclass(frozen=True, slots=True)
class LinearMetric:
    """The linear form `unit * (constant + sum of of(cost))` over the costs of a model, in base units."""

    of: Callable[[Cost], int]
    unit: Fraction = Fraction(1)
    constant: int = 0

    def total(self, costs: Sequence[Cost]) -> Fraction:
        """Return the metric of a model with these costs."""
        return self.unit * (self.constant + sum(map(self.of, costs)))


def linear_metrics(costs: ScenarioCosts) -> dict[str, LinearMetric]:
    """Return every metric of a scenario at one batch except throughput, which is `batch * output / latency`.

    latency = prefill + output * decode, and likewise flops; memory = reserve + weights + kv_cache. The batch is a
    constant: no layer changes it.
    """
    output = costs.output
    return {
        "memory": LinearMetric(lambda c: c.weights_bytes + c.kv_cache_bytes, constant=costs.reserve_bytes),
        "weights": LinearMetric(lambda c: c.weights_bytes),
        "kv_cache": LinearMetric(lambda c: c.kv_cache_bytes),
        "latency": LinearMetric(lambda c: c.prefill_ns + output * c.decode_ns, NANOSECOND),
        "ttft": LinearMetric(lambda c: c.prefill_ns, NANOSECOND),
        "tpot": LinearMetric(lambda c: c.decode_ns, NANOSECOND),
        "flops": LinearMetric(lambda c: c.prefill_flop + output * c.decode_flop),
        "batch": LinearMetric(lambda _: 0, constant=costs.batch),
    }


def running_costs(hardware: RooflineHardware | MeasuredHardware) -> dict[str, Any]:
    """Return `usd_per_s` and `watts` of all GPUs together; None for what is not stated."""
    gpus = hardware.gpus
    return {
        "usd_per_s": None if hardware.usd_per_s is None else gpus * hardware.usd_per_s,
        "watts": None if hardware.watts is None else gpus * hardware.watts,
    }


@dataclass(frozen=True, slots=True)
class Room:
    """Memory constraint of a model: it fits if the sum of `of` over its costs is at most `limit`.

    In whole numbers: `kv_cache <= kv_fraction * (capacity - reserve - weights)`.
    """

    share: Fraction
    limit: int

    def of(self, cost: Cost) -> int:
        """Return the part of the limit that one cost takes."""
        return self.share.denominator * cost.kv_cache_bytes + self.share.numerator * cost.weights_bytes


def room_of(costs: ScenarioCosts) -> Room | None:
    """Return the memory constraint of an `auto` batch; None for a given batch, whose search bounds `memory` itself."""
    if costs.capacity_bytes is None:
        return None
    share = costs.kv_fraction
    return Room(share, share.numerator * (costs.capacity_bytes - costs.reserve_bytes))


def fits(costs: ScenarioCosts, layers: Sequence[LayerAssignment]) -> bool:
    """Return True if the batch is given, or if a model fits the memory at this batch. Raises as `metrics_of` does."""
    room = room_of(costs)
    return room is None or sum(map(room.of, chosen_costs(costs, layers))) <= room.limit


def costs_of_layer(costs: ScenarioCosts, layer: int, choice: LayerAssignment) -> tuple[Cost, ...]:
    """Return the costs that add up to one layer's: the pair's if it is listed, else those of its two sub-blocks.

    Raises KeyError for an alternative that is not in the table.
    """
    pair = costs.pairs[layer].get(f"{choice.attention}/{choice.ffn}") if costs.pairs else None
    if pair is not None:
        return (pair,)
    return costs.attention[layer][choice.attention], costs.ffn[layer][choice.ffn]


def chosen_costs(costs: ScenarioCosts, layers: Sequence[LayerAssignment]) -> Iterator[Cost]:
    """Yield the costs that add up to a model: the fixed part, then each layer's.

    Raises KeyError for an alternative that is not in the table, ValueError for a wrong number of layers.
    """
    if len(layers) != len(costs.attention):
        raise ValueError(f"{len(layers)} layers are chosen, the table has {len(costs.attention)}")
    yield costs.fixed
    for index, choice in enumerate(layers):
        yield from costs_of_layer(costs, index, choice)


def metrics_of(costs: ScenarioCosts, layers: Sequence[LayerAssignment]) -> dict[str, Fraction]:
    """Return a model's exact metrics in base units: bytes, seconds, tokens per second, FLOP, dollars and joules where stated.

    Throughput is 0 if nothing takes time. Raises KeyError for an alternative that is not in the table, ValueError for
    a wrong number of layers.
    """
    chosen = list(chosen_costs(costs, layers))
    found = {name: metric.total(chosen) for name, metric in linear_metrics(costs).items()}
    latency = found["latency"]
    found["throughput"] = costs.batch * costs.output / latency if latency else Fraction(0)
    token_s = latency / (costs.batch * costs.output)
    if costs.usd_per_s is not None:
        found["cost_per_mtok"] = MTOK * costs.usd_per_s * token_s
    if costs.watts is not None:
        found["joules_per_tok"] = costs.watts * token_s
    return found
