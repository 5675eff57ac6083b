"""Costs measured elsewhere: a long table (see costs/long_table.py) to exact numbers in base units.

layer,attention,ffn,params,chat.memory[bytes],chat.latency[us]
0,parent,,21500000,1073741824,112.5          a sub-block: adds to the layer's other sub-block
0,gqa2,mlp8192,,2147483648,301.25            a pair measured together: the layer's whole cost
,noop,,0,0,0                                 every layer
,,,1050000000,2100000000,400                 what no layer changes: embedding, norm, head

A column that is no cost, such as a score, is left to whoever reads scores from the same file. `csv_of` writes such a table of
costs measured on one machine, for programs on others: times in nanoseconds and sizes in bytes, so that reading the file gives
exactly the same numbers.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import closest
from puzzledsl.base.units import BYTES, TIME, UNITS, Dimension
from puzzledsl.costs.errors import TableCell, TableColumn, TableUnreadable
from puzzledsl.costs.long_table import (
    END_KEYS,
    KEYS,
    MORE_KEYS,
    Line,
    LongTable,
    NoTable,
    RowProblems,
    read_long_table,
    written_run,
)
from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts

DIMENSIONS: dict[str, Dimension] = {
    "memory": BYTES,
    "weights": BYTES,
    "kv_cache": BYTES,
    "latency": TIME,
    "ttft": TIME,
    "tpot": TIME,
}
_EXTRA_UNITS = {"bytes": (Fraction(1), BYTES), "byte": (Fraction(1), BYTES), "ns": (Fraction(1, 10**9), TIME)}
_HEADER = re.compile(r"([^.\[\]]+)\.([^.\[\]]+)\[([^\[\]]*)\]")
_NUMBER = re.compile(r"\d+(\.\d*)?([eE][+-]?\d{1,2})?|\.\d+([eE][+-]?\d{1,2})?")


@record
class Row:
    """One row of a table. `values[scenario][metric]` is in bytes or seconds; an empty cell is absent.

    `layer` None stands for every layer. With `attention` or `ffn` empty it is one sub-block, with both empty the fixed part.
    """

    span: Span
    layer: int | None
    attention: str
    ffn: str
    batch: int | None
    params: int | None
    values: dict[str, dict[str, Fraction]]


@record
class Measured:
    """A whole table: its rows and, by scenario, the metrics it has columns for."""

    path: str
    rows: tuple[Row, ...]
    metrics: dict[str, frozenset[str]]


ONE = Fraction(1)
Columns = dict[str, tuple[str, str, Fraction]]
"""Name in the header -> scenario, metric, and the unit in bytes or seconds."""


def read_measured(file: Path, shown: str, span: Span, layers: int, sink: Sink) -> Measured | None:
    """Read a table, called `shown`, for a parent of `layers` layers; None if it is unusable. Mistakes go to `sink`."""
    try:
        table = read_long_table(file, shown)
    except NoTable as error:
        sink.add(TableUnreadable(span, path=shown, reason=error.reason, help=error.help))
        return None
    columns = _columns(table, span, sink)
    if columns is None:
        return None
    problems = RowProblems(table, span, sink, TableCell)
    reader, rows = _RowReader(table, columns, layers), list[Row]()
    for line in table.lines:
        try:
            rows += reader.rows(line)
        except _BadRow as error:
            problems.add(line, str(error))
    problems.report()
    metrics: dict[str, set[str]] = {}
    for scenario, metric, _ in columns.values():
        metrics.setdefault(scenario, set()).add(metric)
    return Measured(shown, tuple(rows), {name: frozenset(found) for name, found in metrics.items()})


def _columns(table: LongTable, span: Span, sink: Sink) -> Columns | None:
    """The metric columns, or None where the header is not understood (each mistake is reported)."""
    problems = [(problem, span) for problem in table.header_problems()]
    found: Columns = {}
    for name in table.header.cells:
        if name in (*KEYS, *MORE_KEYS, *END_KEYS, *found):
            continue
        column = _metric_column(name)
        if isinstance(column, str):
            problems.append((column, table.header.span))
        elif column is not None:
            if any(column[:2] == other[:2] for other in found.values()):
                problems.append((f"`{column[0]}.{column[1]}` is there twice, in two units", span))
            found[name] = column
    scenario = next((scenario for scenario, *_ in found.values()), "chat")
    for problem, at in problems:
        sink.add(TableColumn(at, path=table.shown, problem=problem, scenario=scenario))
    return None if problems else found


def _metric_column(name: str) -> tuple[str, str, Fraction] | str | None:
    """The column a header names, or what is wrong with it; None for one that is no cost."""
    match = _HEADER.fullmatch(name)
    if match is None:
        near = closest(name, (*KEYS, *MORE_KEYS))
        if near is not None or not name:
            return f"column `{name}` is not understood" + (f"; did you mean `{near}`?" if near else "")
        if "." in name or "[" in name:
            return f"column `{name}` is no `SCENARIO.METRIC[UNIT]`"
        return None
    scenario, metric, unit = (part.strip() for part in match.groups())
    if metric not in DIMENSIONS:
        near = closest(metric, DIMENSIONS)
        return f"column `{name}`: there is no metric `{metric}`" + (
            f"; did you mean `{near}`?" if near else ""
        )
    scale, dimension = _EXTRA_UNITS.get(unit) or UNITS.get(unit) or (Fraction(0), None)
    if dimension != DIMENSIONS[metric]:
        example = "bytes` or `GiB" if DIMENSIONS[metric] == BYTES else "us` or `ms"
        return f"column `{name}`: `{unit}` does not measure {DIMENSIONS[metric].name}; write `{example}`"
    return scenario, metric, ONE if scale == 1 else scale


class _BadRow(Exception):
    """A row with a mistake, which the text says."""


@dataclass(slots=True)
class _RowReader:
    table: LongTable
    columns: Columns
    layers: int

    def rows(self, line: Line) -> Iterator[Row]:
        """Yield the costs of a row, unless it has a score alone. Raises _BadRow."""
        if wrong := self.table.row_length(line):
            raise _BadRow(wrong)
        text = self.table.text
        run, end = written_run(text(line, "layer")), any(text(line, key) for key in END_KEYS)
        if run is not None or end:
            what = "an end of the model" if run is None else "a run of layers"
            for cost in filter(None, (text(line, name) for name in (*MORE_KEYS, *self.columns))):
                raise _BadRow(f"{what} has a score and no costs: `{cost[:40]}` is one")
            return
        values: dict[str, dict[str, Fraction]] = {}
        for name, (scenario, metric, scale) in self.columns.items():
            if (number := self._number(line, name)) is not None:
                values.setdefault(scenario, {})[metric] = number if scale is ONE else number * scale
        layer = self._whole(line, "layer")
        if layer is not None and layer >= self.layers:
            range = f"the parent's layers are 0 to {self.layers - 1}"
            raise _BadRow(f"layer {layer} is out of range: {range}")
        names = text(line, "attention"), text(line, "ffn")
        yield Row(line.span, layer, *names, self._whole(line, "batch"), self._whole(line, "params"), values)

    def _number(self, line: Line, column: str) -> Fraction | None:
        """The number in a cell; None for an empty one."""
        text = self.table.text(line, column)
        number = _fraction(text) if text else None
        if text and number is None:
            raise _BadRow(f"`{text[:40]}` in column `{column}` is not a number of 0 or more")
        return number

    def _whole(self, line: Line, column: str) -> int | None:
        number = self._number(line, column)
        if number is not None and number.denominator != 1:
            raise _BadRow(f"`{self.table.text(line, column)}` in column `{column}` is not a whole number")
        return None if number is None else int(number)


@functools.lru_cache(maxsize=1 << 16)  # the layers' rows are much alike
def _fraction(text: str) -> Fraction | None:
    """A number of 0 or more; None for another text."""
    return Fraction(text) if len(text) <= 60 and _NUMBER.fullmatch(text) else None


_WRITTEN = ("weights[bytes]", "kv_cache[bytes]", "ttft[ns]", "tpot[ns]")


def csv_of(table: CostTable) -> str:
    """Every scenario at every batch of a table. The reserve of a profile is not a cost of any part, and is left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["layer", "attention", "ffn", "batch", "params"]
        + [f"{scenario}.{metric}" for scenario in table.scenarios for metric in _WRITTEN]
    )
    for place, candidates in enumerate(table.scenarios.values()):
        before = [""] * (len(_WRITTEN) * place)
        after = [""] * (len(_WRITTEN) * (len(table.scenarios) - place - 1))
        for costs in candidates:
            for layer, attention, ffn, cost in _rows(costs):
                figures = (cost.weights_bytes, cost.kv_cache_bytes, cost.prefill_ns, cost.decode_ns)
                writer.writerow([layer, attention, ffn, costs.batch, cost.params, *before, *figures, *after])
    return text.getvalue()


def _rows(costs: ScenarioCosts) -> Iterator[tuple[str, str, str, Cost]]:
    """Yield layer, attention and FFN with their cost. Rows without a layer apply to every layer."""
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
