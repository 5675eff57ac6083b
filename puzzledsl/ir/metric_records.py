"""Metrics of a scenario: a record each, read by the language, costs, searches and reports; the verifier evaluates them itself."""

from collections.abc import Mapping
from dataclasses import field
from fractions import Fraction
from typing import Literal

from puzzledsl.base.frozen import Record
from puzzledsl.base.units import BYTES, COUNT, DOLLARS, ENERGY, FLOPS, REQ_PER_S, TIME, TOK_PER_S, Dimension

NANOSECOND = Fraction(1, 10**9)
CostField = Literal[
    "weights_bytes", "kv_cache_bytes", "prefill_ns", "decode_ns", "prefill_flop", "decode_flop"
]
Often = Literal["once", "per output"]
"""A field of a decode step counts once, or for each token that a sequence generates."""
Load = Literal["", "p95", "full"]
"""The number of sequences that a figure of traffic is at: what runs, what 95 % of requests find at most, or `at_most`."""


class Metric(Record):
    """A figure that `SCENARIO.NAME` gives.

    `better`: less or more of it; empty for the batch. `needs`: the hardware's setting without which a scenario lacks the metric,
    which is that price or power times the time of `tokens` generated tokens. `of_costs`: the fields of a `Cost` that it sums, in
    units of `scale` base units, beside the field `constant` of the scenario's costs. `load`: the number of sequences that it is
    at under traffic, where `costs.metrics` has other formulas.
    """

    name: str
    dimension: Dimension
    better: Literal["less", "more", ""]
    doc: str
    of_costs: Mapping[CostField, Often] = field(default_factory=dict)
    scale: Fraction = Fraction(1)
    constant: Literal["reserve_bytes", "batch", ""] = ""
    needs: Literal["price", "power", ""] = ""
    tokens: int = 1
    load: Load = ""


_LATENCY: Mapping[CostField, Often] = {"prefill_ns": "once", "decode_ns": "per output"}
_TRAFFIC: tuple[tuple[str, Dimension, Load, str], ...] = (
    ("max_rate", REQ_PER_S, "full", "Requests a second that `at_most` running sequences sustain."),
    (
        "utilisation",
        COUNT,
        "full",
        "Share of `max_rate` that the traffic is; above 1, queues grow without end.",
    ),
    ("p95_ttft", TIME, "p95", "Time to first token of 95 % of requests at most, by Erlang's bound."),
    ("p95_tpot", TIME, "p95", "Time per output token of 95 % of requests at most, by Erlang's bound."),
)
_METRICS = (
    Metric(
        "memory",
        BYTES,
        "less",
        "Bytes on each GPU: the runtime's reserve + `weights` + `kv_cache`.",
        {"weights_bytes": "once", "kv_cache_bytes": "once"},
        constant="reserve_bytes",
    ),
    Metric("weights", BYTES, "less", "Bytes of all parameters on each GPU.", {"weights_bytes": "once"}),
    Metric(
        "kv_cache",
        BYTES,
        "less",
        "Bytes of keys and values on each GPU for the whole batch at full length (prompt + output).",
        {"kv_cache_bytes": "once"},
    ),
    Metric("latency", TIME, "less", "Seconds for a batch: `ttft + output * tpot`.", _LATENCY, NANOSECOND),
    Metric(
        "ttft", TIME, "less", "Time to first token: a pass over prompts.", {"prefill_ns": "once"}, NANOSECOND
    ),
    Metric(
        "tpot",
        TIME,
        "less",
        "Time per output token: one decode step of the whole batch, at the mean context length.",
        {"decode_ns": "once"},
        NANOSECOND,
    ),
    Metric("throughput", TOK_PER_S, "more", "Tokens generated a second: `batch * output / latency`."),
    Metric(
        "flops",
        FLOPS,
        "less",
        "Floating-point operations of one batch, prompt and all outputs.",
        {"prefill_flop": "once", "decode_flop": "per output"},
    ),
    Metric(
        "cost_per_mtok",
        DOLLARS,
        "less",
        "Dollars for a million generated tokens, at the `price` of the hardware: `1_000_000 * price / throughput`.",
        needs="price",
        load="full",
        tokens=10**6,
    ),
    Metric(
        "joules_per_tok",
        ENERGY,
        "less",
        "Energy of a generated token, at the `power` of the hardware: `power / throughput`.",
        needs="power",
        load="full",
    ),
    Metric(
        "batch",
        COUNT,
        "",
        "Sequences in one batch: a constant, or what the search decides where there are several, `auto` or traffic.",
        constant="batch",
    ),
    *(
        Metric(name, dimension, "more" if name == "max_rate" else "less", doc, load=load)
        for name, dimension, load, doc in _TRAFFIC
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}
"""Sizes and times are per GPU; tokens per second and FLOP cover all GPUs."""
BATCH_ALONE, TRAFFIC_ALONE = ("latency", "throughput", "flops"), tuple(name for name, *_ in _TRAFFIC)
"""Metrics that traffic does not have, and those that a batch does not have."""
TERMS = tuple(m.name for m in _METRICS if not m.needs and m.name not in TRAFFIC_ALONE)
"""Metrics that terms of a search can name, with those of TRAFFIC_ALONE; those that need a setting are multiples of latency."""
PER_SECOND = ("throughput", "max_rate")
"""Metrics that are an amount divided by a time, so that a bound on one is linear where it stands alone."""
STATED: Mapping[str, Literal["usd_per_s", "watts"]] = {"price": "usd_per_s", "power": "watts"}
"""A setting of the hardware that metrics need -> the field of a scenario's costs."""


def metrics_under(*, traffic: bool) -> Mapping[str, Metric]:
    """Return the metrics, by name, of scenarios under traffic, or else of those with batches."""
    other = BATCH_ALONE if traffic else TRAFFIC_ALONE
    return {name: metric for name, metric in METRICS.items() if name not in other}


def place_of(scenario: str, metric: str) -> str:
    """Return the scenario whose number of sequences a metric is at: `busy`, `busy@p95` or `busy@full`."""
    return f"{scenario}@{load}" if (load := METRICS[metric].load) else scenario


def metric_named(path: str) -> Metric | None:
    """Return the metric that a path such as `chat.memory` names; None for a name without a scenario, or an unknown metric."""
    scenario, _, name = path.rpartition(".")
    return METRICS.get(name) if scenario else None
