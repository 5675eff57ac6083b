"""Write a cost table as CSV for `table("costs.csv")`: costs measured on one machine, for programs on others.

Rows without a layer apply to every layer; layers that differ have rows of their own. Times are in nanoseconds and
sizes in bytes, so that reading the file gives exactly the same numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts

METRICS = ("weights[bytes]", "kv_cache[bytes]", "ttft[ns]", "tpot[ns]")
Row = tuple[str, str, str, Cost]  # layer, attention, ffn


def csv_of(table: CostTable) -> str:
    """Every scenario at every batch of a table. The reserve of a profile is not a cost of any part, and is left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["layer", "attention", "ffn", "batch", "params"]
        + [f"{scenario}.{metric}" for scenario in table.scenarios for metric in METRICS]
    )
    for place, candidates in enumerate(table.scenarios.values()):
        before = [""] * (len(METRICS) * place)
        after = [""] * (len(METRICS) * (len(table.scenarios) - place - 1))
        for costs in candidates:
            for layer, attention, ffn, cost in _rows(costs):
                figures = (cost.weights_bytes, cost.kv_cache_bytes, cost.prefill_ns, cost.decode_ns)
                writer.writerow([layer, attention, ffn, costs.batch, cost.params, *before, *figures, *after])
    return text.getvalue()


def _rows(costs: ScenarioCosts) -> Iterator[Row]:
    yield "", "", "", costs.fixed
    for layer, name, cost in _alike(costs.attention):
        yield layer, name, "", cost
    for layer, name, cost in _alike(costs.ffn):
        yield layer, "", name, cost
    for layer, name, cost in _alike(costs.pairs):
        attention, _, ffn = name.partition("/")
        yield layer, attention, ffn, cost


def _alike(layers: Sequence[Mapping[str, Cost]]) -> Iterator[tuple[str, str, Cost]]:
    """One row a name where it costs the same wherever it occurs, else one a layer."""
    for name in dict.fromkeys(name for layer in layers for name in layer):
        found = {index: layer[name] for index, layer in enumerate(layers) if name in layer}
        if len(set(found.values())) == 1:
            yield "", name, next(iter(found.values()))
        else:
            for index, cost in found.items():
                yield str(index), name, cost
