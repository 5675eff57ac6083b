"""A breakdown as text: runs of equal layers, then the shares of time and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from fractions import Fraction
from itertools import groupby

from puzzledsl.base.phrases import aligned
from puzzledsl.base.units import BYTES, COUNT, TIME, format_quantity
from puzzledsl.costs.breakdown import Breakdown, LayerCost
from puzzledsl.costs.roofline import Times
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.tables import Cost

NS_PER_S = 10**9
CAUSES = {
    "weights": "reading weights",
    "matrices": "multiplying matrices",
    "attention": "attention (KV reads, scores)",
    "link": "exchange between GPUs",
    "overhead": "overhead of sub-blocks",
}


def as_text(found: Breakdown) -> str:
    """The whole breakdown."""
    lengths = f"batch {found.batch}, {found.prompt} -> {found.output} tokens"
    head = f"{found.model}, scenario {found.scenario} on {found.hardware}: {lengths}"
    notes = [f"  {found.note}"] if found.note else []
    return "\n".join(
        [head, f"  {found.provenance}", *notes, "", *_layers(found), "", *_where(found), "", *_metrics(found)]
    )


def _timed(found: Breakdown) -> bool:
    return "latency" not in found.unknown


def _time(nanoseconds: int | Fraction) -> str:
    return format_quantity(Fraction(nanoseconds) / NS_PER_S, TIME, 3)


def _bytes(count: int | Fraction) -> str:
    return format_quantity(Fraction(count), BYTES, 3) if count else "0"


def _share(part: int | Fraction, whole: int | Fraction) -> str:
    return f"{float(part / whole):.1%}" if whole else "0%"


def _table(rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """Columns two spaces apart, the first `left` of them flush left."""
    yield from (f"  {line}" for line in aligned(rows, "<" * left + ">" * (len(rows[0]) - left)))


def _row(found: Breakdown, label: Sequence[str], cost: Cost) -> list[str]:
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
    """Runs of layers with the same choice and cost; a row is one layer's cost, its share the whole run's."""
    rows = [["layers", "attention", "ffn", "params", "weights", "KV cache", "prefill", "decode", "latency"]]
    for _, run in groupby(found.layers, key=lambda layer: (layer.shown, layer.total)):
        same: list[LayerCost] = list(run)
        first, count = same[0], len(same)
        where = str(first.index) if count == 1 else f"{first.index}-{same[-1].index}"
        row = _row(found, (where, *first.shown), first.total)
        row[-1] = _share(count * found.latency_ns(first.total), found.whole_ns)
        rows.append(row)
    rows.append(_row(found, ("fixed", "embedding", "head"), found.fixed))
    yield from _table(rows if _timed(found) else [row[:-3] for row in rows], 3)


def _where(found: Breakdown) -> Iterator[str]:
    """Time by part and, where that is known, by cause; then bytes."""
    if _timed(found):
        yield from _times(found)
        yield ""
    memory = found.metrics["memory"]
    sizes = [(f"weights of {name}", cost.weights_bytes) for name, cost in found.parts.items()]
    sizes += [("KV cache", int(found.metrics["kv_cache"])), ("reserve", found.reserve_bytes)]
    shown = [[name, _bytes(size), _share(size, memory)] for name, size in sizes if size]
    yield from _table([["bytes go to", "each GPU", "memory"], *shown], 1)


def _times(found: Breakdown) -> Iterator[str]:
    whole = found.whole_ns
    rows = [["time goes to", "prefill", "decode step", "latency"]]
    for name, cost in found.parts.items():
        rows.append(
            [name, _time(cost.prefill_ns), _time(cost.decode_ns), _share(found.latency_ns(cost), whole)]
        )
    if found.causes:
        rows += list(_causes(found, found.causes))
    yield from _table(rows, 1)


def _causes(found: Breakdown, causes: tuple[Times, Times]) -> Iterator[list[str]]:
    prefill, decode = causes
    whole = found.prompts * prefill.total + found.output * decode.total
    for field in fields(Times):
        once, step = getattr(prefill, field.name), getattr(decode, field.name)
        if once or step:
            share = _share(found.prompts * once + found.output * step, whole)
            yield [f"· {CAUSES[field.name]}", _time(once * NS_PER_S), _time(step * NS_PER_S), share]


def _metrics(found: Breakdown) -> Iterator[str]:
    rows = []
    for name, metric in METRICS.items():
        if name in found.unknown or name not in found.metrics or name == "batch":  # the head names it
            continue
        value, parent = found.metrics[name], found.parent_metrics[name]
        ratio = f"{float(value / parent):.3g}x the parent's" if parent and value != parent else ""
        rows.append([name, format_quantity(value, metric.dimension), ratio])
    yield from _table(rows, 1)
    if found.unknown:
        yield f"  not known: {', '.join(found.unknown)}"
