"""Conversion of a measured table to `ScenarioCosts`, with diagnostics of costs that the space needs and the table lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.phrases import closest, layers_in_words
from puzzledsl.costs.csv_table import Measured, Row, TableBatch, TableCell, TableMetrics, TableMissing
from puzzledsl.costs.flops import Workload, fixed_flop, sub_block_flop
from puzzledsl.costs.roofline import FREE, NS_PER_S
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.nodes import Scenario, Shape, Space
from puzzledsl.ir.tables import Cost, ScenarioCosts

Key = tuple[str, str]  # attention, ffn; an empty one: sub-block


@dataclass(slots=True)
class _Names:
    """The alternatives and pairs of one layer that need costs, and the layer's shape."""

    shape: Shape
    attention: Mapping[str, Alternative]
    ffn: Mapping[str, Alternative]
    pairs: set[Key]


def _asked(space: Space, shape: Shape) -> list[_Names]:
    """Return, for every layer, the space's alternatives and the parent's, and the pairs of a child or of the parent."""
    layers = []
    for own, choice in zip(shape.each, space.layers, strict=True):
        pairs = {(a.name, f.name) for a in choice.attention for f in choice.ffn} | {("parent", "parent")}
        layers.append(_Names(own, *choice.by_name(), pairs))
    return layers


def imported_costs(
    table: Measured, scenario: Scenario, space: Space, shape: Shape, span: Span, sink: Sink
) -> tuple[ScenarioCosts, ...]:
    """Return a scenario's costs at each of its batches, in ascending order. Mistakes go to `sink`."""
    if len(_unknown(table.metrics.get(scenario.name, frozenset()))) >= len(SIZES + TIMES):
        sink.add(TableMetrics(span, path=table.path, scenario=scenario.name))
        return ()
    rows = [row for row in table.rows if row.values.get(scenario.name)]
    measured = sorted({row.batch for row in rows if row.batch is not None})
    wanted = tuple(measured if scenario.traffic else sorted(set(scenario.batches)) or measured)
    found: list[ScenarioCosts] = []
    for batch in wanted:
        here = [row for row in rows if row.batch in (batch, None)]
        if measured and batch not in measured:
            help = "the table was measured at " + ", ".join(str(b) for b in measured)
            sink.add(TableBatch(span, path=table.path, scenario=scenario.name, batch=batch, help=help))
        else:
            found.append(_at_batch(table, scenario, batch, here, space, shape, span, sink))
    if not measured and len(wanted) != 1:
        what = " | ".join(str(b) for b in wanted) or "auto"
        help = "one batch a scenario, or a `batch` column with rows for each"
        sink.add(TableBatch(span, path=table.path, scenario=scenario.name, batch=f"`{what}`", help=help))
    return tuple(found)


SIZES = ("memory", "weights", "kv_cache")
TIMES = ("latency", "ttft", "tpot", "throughput")
_PARTS = {"weights_bytes": "weights", "kv_cache_bytes": "kv_cache", "prefill_ns": "ttft", "decode_ns": "tpot"}
"""Field of a cost -> the metric that is it alone."""


def _unknown(metrics: frozenset[str]) -> tuple[str, ...]:
    """Return the metrics that a scenario's columns do not determine, including the parts of a total that is given alone."""
    parts = {"weights", "kv_cache"}
    if parts <= metrics:
        sizes: tuple[str, ...] = ()
    elif "memory" in metrics:
        sizes = () if parts & metrics else ("weights", "kv_cache")  # the other part is the rest
    else:
        sizes = SIZES
    times: tuple[str, ...] = ()
    if not {"ttft", "tpot"} <= metrics:
        times = ("ttft", "tpot") if "latency" in metrics else TIMES
    unknown = sizes + times
    others = (m for m in METRICS.values() if m.name not in SIZES + TIMES)
    return unknown + tuple(m.name for m in others if any(_PARTS.get(part) in unknown for part in m.of_costs))


def _at_batch(
    table: Measured,
    scenario: Scenario,
    batch: int,
    rows: list[Row],
    space: Space,
    shape: Shape,
    span: Span,
    sink: Sink,
) -> ScenarioCosts:
    asked, fixed = _asked(space, shape), FREE
    layers: list[dict[Key, Cost]] = [{} for _ in asked]
    seen: dict[tuple[int | None, str, str], int] = {}
    # rows for every layer first: others overrule them
    for row in sorted(rows, key=lambda r: r.layer is not None):
        where = (row.layer, row.attention, row.ffn)
        cost = _cost(row, scenario, table, sink)
        if cost is None:
            continue
        if where in seen:
            sink.add(
                _cell(table, row, f"this is line {seen[where]} again: the same layer, attention and ffn")
            )
        seen[where] = row.span.line
        work = Workload(batch, scenario.prompt, scenario.output)
        if not row.attention and not row.ffn:
            flop = dict.fromkeys(("prefill_flop", "decode_flop"), fixed_flop(shape, work))
            fixed = cost.model_copy(update=flop)
        else:
            known: dict[tuple[int, int], Cost] = {}  # by the FLOP
            for index in range(len(asked)) if row.layer is None else (row.layer,):
                prefill, decode = of_both = _flop(row, asked[index], work)
                if of_both not in known:
                    known[of_both] = cost.model_copy(update={"prefill_flop": prefill, "decode_flop": decode})
                layers[index][row.attention, row.ffn] = known[of_both]
    both = [*zip(layers, asked, strict=True)]
    for costs, names in both:
        removed = [(a.name, "") for a in names.attention.values() if a.removes]
        removed += [("", f.name) for f in names.ffn.values() if f.removes]
        for key in removed:
            costs.setdefault(key, FREE)
    _report_missing(both, table, scenario.name, span, sink)
    pairs = tuple(
        {f"{a}/{f}": cost for (a, f), cost in costs.items() if (a, f) in names.pairs} for costs, names in both
    )
    return ScenarioCosts(
        scenario=scenario.name,
        batch=batch,
        prompt=scenario.prompt,
        output=scenario.output,
        fixed=fixed,
        attention=tuple({a: c for (a, f), c in of.items() if a in n.attention and not f} for of, n in both),
        ffn=tuple({f: c for (a, f), c in of.items() if f in n.ffn and not a} for of, n in both),
        pairs=pairs if any(pairs) else (),
        unknown=_unknown(table.metrics[scenario.name]),
    )


def _cost(row: Row, scenario: Scenario, table: Measured, sink: Sink) -> Cost | None:
    """Return the costs of a row; None, reported, for an empty cell. `memory` alone is weights, `latency` alone prefill."""
    values = row.values[scenario.name]
    missing = table.metrics[scenario.name] - set(values)
    if missing:
        problem = f"`{scenario.name}.{min(missing)}` is empty while others of the scenario are not"
        sink.add(_cell(table, row, problem))
        return None
    ttft, tpot = values.get("ttft"), values.get("tpot")
    if tpot is None or ttft is None:
        ttft, tpot = values.get("latency", Fraction(0)), Fraction(0)
    cache = values.get("kv_cache", Fraction(0))
    weights = values.get("weights")
    if weights is None:
        weights = max(values.get("memory", Fraction(0)) - cache, Fraction(0))
    elif "kv_cache" not in values:
        cache = max(values.get("memory", Fraction(0)) - weights, Fraction(0))
    return Cost(
        params=row.params or 0,
        weights_bytes=ceil(weights),
        kv_cache_bytes=ceil(cache),
        prefill_ns=ceil(ttft * NS_PER_S),
        decode_ns=ceil(tpot * NS_PER_S),
    )


def _flop(row: Row, names: _Names, work: Workload) -> tuple[int, int]:
    """Return the FLOP of a row in one layer, by its shape, as tables have none."""
    found = (names.attention.get(row.attention), names.ffn.get(row.ffn))
    flop = [sub_block_flop(names.shape, a, work) for a in found if a]
    return sum(prefill for prefill, _ in flop), sum(decode for _, decode in flop)


def _cell(table: Measured, row: Row, problem: str) -> TableCell:
    return TableCell(row.span, path=table.path, line=f"line {row.span.line}", problem=problem, help="")


def _report_missing(
    layers: list[tuple[dict[Key, Cost], _Names]], table: Measured, scenario: str, span: Span, sink: Sink
) -> None:
    """Report each alternative or pair that has neither a row of its own nor rows of its two sub-blocks."""
    absent: dict[str, list[int]] = {}
    for index, (costs, names) in enumerate(layers):
        for a, f in sorted(names.pairs):
            if (a, f) in costs:
                continue
            lacking = [k for k in ((a, ""), ("", f)) if k not in costs]
            only_pairs = any(x and y for x, y in costs)
            if only_pairs and len(lacking) == 2:
                absent.setdefault(f"attention `{a}` with ffn `{f}`", []).append(index)
            else:
                for x, y in lacking:
                    where = absent.setdefault(f"attention `{x}`" if x else f"ffn `{y}`", [])
                    if index not in where:
                        where.append(index)
    present = {name for row in table.rows for name in (row.attention, row.ffn) if name}
    for what, indices in absent.items():
        near = closest(what.split("`")[1], sorted(present))
        names = "names are those of the space: " + ", ".join(sorted(present)[:12])
        said = {
            "what": what,
            "layers": layers_in_words(indices),
            "help": f"the table has `{near}`" if near else names,
        }
        sink.add(TableMissing(span, path=table.path, scenario=scenario, **said))
