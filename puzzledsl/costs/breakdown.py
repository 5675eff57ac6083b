"""Cost breakdown of a model, and its text: time and bytes by layer and by part."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby

from puzzledsl.alternatives.alternative import SUB_BLOCKS, absent
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import aligned
from puzzledsl.base.units import BYTES, COUNT, TIME, format_quantity
from puzzledsl.costs.metrics import costs_of_ends, costs_of_layer, own_costs, whole_metrics
from puzzledsl.costs.roofline import FREE, NS_PER_S, any_batch
from puzzledsl.ir import tables
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.nodes import Program, Space


class LayerCost(Record):
    """One layer's choice, names to show (`none`: the parent lacks the sub-block), and costs of each sub-block or of the pair."""

    choice: tables.LayerAssignment
    shown: tuple[str, ...]
    costs: tuple[tables.Cost, ...]

    @property
    def total(self) -> tables.Cost:
        """The cost of both sub-blocks together."""
        return added(self.costs)


class Breakdown(Record):
    """Costs and metrics of a model in a scenario, at the batch of `costs`; `fixed` is the cost of embedding, norm and head."""

    model: str
    hardware: str
    provenance: str
    costs: tables.ScenarioCosts
    fixed: tables.Cost
    layers: tuple[LayerCost, ...]
    metrics: dict[str, Fraction]
    parent_metrics: dict[str, Fraction]

    @property
    def parts(self) -> dict[str, tables.Cost]:
        """Costs by part: all attentions, all FFNs, all layers with one cost for both, embedding and head; none that is zero."""
        apart = [layer.costs for layer in self.layers if len(layer.costs) > 1]
        found = {
            "attention": added([costs[0] for costs in apart]),
            "ffn": added([costs[1] for costs in apart]),
            "layers": added([layer.total for layer in self.layers if len(layer.costs) == 1]),
            "embedding and head": self.fixed,
        }
        return {name: cost for name, cost in found.items() if cost != FREE}

    def _known(self, metrics: dict[str, Fraction]) -> dict[str, float]:
        return {name: float(value) for name, value in metrics.items() if name not in self.costs.unknown}

    def latency_ns(self, cost: tables.Cost) -> int:
        """Return the time in ns that a cost takes of one batch: its prefill and all decode steps.

        Under traffic `prefill_ns` is of one prompt, and is counted once for each running sequence.
        """
        prompts = 1 if self.costs.rate is None else self.costs.batch
        return prompts * cost.prefill_ns + self.costs.output * cost.decode_ns

    @property
    def whole_ns(self) -> int:
        """The latency of one batch in ns; under traffic the time in which as many requests end as run at once."""
        return sum(map(self.latency_ns, self.parts.values()))

    def as_json(self) -> dict[str, object]:
        """Return a JSON object: parts and layers in bytes, ns and FLOP; known metrics in base units, so times in seconds."""
        given = ("scenario", "batch", "prompt", "output", "reserve_bytes")
        return {
            "model": self.model,
            "hardware": self.hardware,
            "provenance": self.provenance,
            **{name: getattr(self.costs, name) for name in given},
            "metrics": self._known(self.metrics),
            "parent_metrics": self._known(self.parent_metrics),
            "parts": {name: cost.model_dump() for name, cost in self.parts.items()},
            "layers": [
                {"layer": index, **each.choice.model_dump(), **each.total.model_dump()}
                for index, each in enumerate(self.layers)
            ],
        }


def added(costs: Sequence[tables.Cost]) -> tables.Cost:
    """Return the sum of costs, field by field."""
    return tables.Cost(**{key: sum(getattr(cost, key) for cost in costs) for key in tables.Cost.model_fields})


def costs_at(
    program: Program,
    space: Space,
    table: tables.CostTable,
    scenario: str,
    layers: Sequence[tables.Assignment],
    batch: int | None = None,
) -> tables.ScenarioCosts:
    """Return a scenario's costs at `batch` for the model whose choices are `layers`. Raises KeyError for an unlisted batch.

    `batch` None: at the largest batch that fits the memory; under traffic at the fewest sequences that sustain the rate.
    """
    anywhere = any_batch(program, space, table, scenario)
    if anywhere is not None:
        return anywhere.at(batch or anywhere.largest(layers) or 1)
    candidates = table.scenarios[scenario]
    if batch is None:
        return own_costs(candidates, layers)
    found = [costs for costs in candidates if costs.batch == batch]
    if not found:
        raise KeyError((scenario, batch))
    return found[0]


def breakdown(
    program: Program,
    space: Space,
    table: tables.CostTable,
    scenario: str,
    layers: Sequence[tables.Assignment],
    model: str,
    batch: int | None = None,
) -> Breakdown:
    """Return the breakdown of the model named `model`; `batch` as in `costs_at`. Raises KeyError for what has no costs."""
    costs = costs_at(program, space, table, scenario, layers, batch)
    listed, parent = table.scenarios[scenario], [tables.PARENT] * len(layers)
    parents = costs if costs.rate is None else own_costs(listed, parent)
    each = zip(tables.layers_of_child(layers), program.parents[space.parent].shape.each, strict=True)
    return Breakdown(
        model=model,
        hardware=program.scenarios[scenario].hardware,
        provenance=table.provenance.get(scenario, ""),
        costs=costs,
        fixed=costs_of_ends(costs, tables.ends_of_child(layers)),
        layers=tuple(
            LayerCost(
                choice,
                tuple("none" if absent(part, own) else getattr(choice, part) for part in SUB_BLOCKS),
                costs_of_layer(costs, index, choice),
            )
            for index, (choice, own) in enumerate(each)
        ),
        metrics=whole_metrics(listed, layers, costs),
        parent_metrics=whole_metrics(listed, parent, parents),
    )


def as_text(found: Breakdown) -> str:
    """Return the breakdown as text: a heading, tables of layers, of time and bytes by part, and the metrics."""
    costs = found.costs
    lengths = f"batch {costs.batch}, {costs.prompt} -> {costs.output} tokens"
    head = f"{found.model}, scenario {costs.scenario} on {found.hardware}: {lengths}"
    parts = (_layers(found), _where(found), _metrics(found))
    return "\n".join([head, f"  {found.provenance}", *(line for part in parts for line in ("", *part))])


def _timed(found: Breakdown) -> bool:
    return "latency" not in found.costs.unknown


def _time(nanoseconds: int | Fraction) -> str:
    return format_quantity(Fraction(nanoseconds) / NS_PER_S, TIME, 3)


def _bytes(count: int | Fraction) -> str:
    return format_quantity(Fraction(count), BYTES, 3) if count else "0"


def _share(part: int | Fraction, whole: int | Fraction) -> str:
    return f"{float(part / whole):.1%}" if whole else "0%"


def _row(found: Breakdown, label: Sequence[str], cost: tables.Cost) -> list[str]:
    return [
        *label,
        format_quantity(cost.params, COUNT, 3),
        _bytes(cost.weights_bytes),
        _bytes(cost.kv_cache_bytes),
        _time(cost.prefill_ns),
        _time(cost.decode_ns),
        _share(found.latency_ns(cost), found.whole_ns),
    ]


def _layers(found: Breakdown) -> Iterator[str]:
    """Yield the table of layers. Alike layers in a row share a line: the costs of one of them, the latency share of all."""
    rows = [["layers", "attention", "ffn", "params", "weights", "KV cache", "prefill", "decode", "latency"]]
    index = 0
    for _, run in groupby(found.layers, key=lambda layer: (layer.shown, layer.total)):
        first, *others = run
        count = 1 + len(others)
        where = str(index) if count == 1 else f"{index}-{index + count - 1}"
        index += count
        row = _row(found, (where, *first.shown), first.total)
        row[-1] = _share(count * found.latency_ns(first.total), found.whole_ns)
        rows.append(row)
    rows.append(_row(found, ("fixed", "embedding", "head"), found.fixed))
    yield from aligned(rows if _timed(found) else [row[:-3] for row in rows], "<<<>", "  ")


def _where(found: Breakdown) -> Iterator[str]:
    """Yield the table of time by part, if times are known, then the table of bytes on each device."""
    if _timed(found):
        rows = [["time goes to", "prefill", "decode step", "latency"]]
        for name, cost in found.parts.items():
            share = _share(found.latency_ns(cost), found.whole_ns)
            rows.append([name, _time(cost.prefill_ns), _time(cost.decode_ns), share])
        yield from aligned(rows, "<>", "  ")
        yield ""
    memory = found.metrics["memory"]
    sizes = [(f"weights of {name}", cost.weights_bytes) for name, cost in found.parts.items()]
    sizes += [("KV cache", int(found.metrics["kv_cache"])), ("reserve", found.costs.reserve_bytes)]
    shown = [[name, _bytes(size), _share(size, memory)] for name, size in sizes if size]
    yield from aligned([["bytes go to", "each device", "memory"], *shown], "<>", "  ")


def _metrics(found: Breakdown) -> Iterator[str]:
    rows = []
    for name, metric in METRICS.items():
        if name in found.costs.unknown or name not in found.metrics or name == "batch":  # the head names it
            continue
        value, parent = found.metrics[name], found.parent_metrics[name]
        ratio = f"{float(value / parent):.3g}x the parent's" if parent and value != parent else ""
        rows.append([name, format_quantity(value, metric.dimension), ratio])
    yield from aligned(rows, "<>", "  ")
    if found.costs.unknown:
        yield f"  not known: {', '.join(found.costs.unknown)}"
