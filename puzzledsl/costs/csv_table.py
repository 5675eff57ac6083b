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
from typing import NoReturn

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import closest
from puzzledsl.base.units import BYTES, TIME, UNITS, Dimension
from puzzledsl.costs.errors import TableCell, TableColumn, TableUnreadable
from puzzledsl.costs.long_table import (
    END_KEYS,
    KEYS,
    MORE_KEYS,
    Cell,
    CellProblems,
    Line,
    LongTable,
    NoTable,
    header_problems,
    read_long_table,
    row_length,
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
    `line` is its line in the file, `span` its place there (None if it has none).
    """

    line: int
    span: Span | None
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


@dataclass(slots=True)
class _Column:
    name: str
    scenario: str
    metric: str
    scale: Fraction


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
    problems = CellProblems(table, span, sink, TableCell)
    reader = _RowReader(table, columns, layers, problems)
    rows = [reader.row(line) for line in table.lines]
    problems.report()
    metrics: dict[str, set[str]] = {}
    for column in columns:
        metrics.setdefault(column.scenario, set()).add(column.metric)
    return Measured(
        shown,
        tuple(row for row in rows if row),
        {name: frozenset(found) for name, found in metrics.items()},
    )


def _columns(table: LongTable, span: Span, sink: Sink) -> list[_Column] | None:
    """The metric columns, or None where the header is not understood (each mistake is reported)."""
    problems: list[tuple[str, Span]] = [(problem, span) for problem in header_problems(table.names)]
    found: list[_Column] = []
    for cell in table.header:
        if cell.text in (*KEYS, *MORE_KEYS, *END_KEYS):
            continue
        column = _metric_column(cell.text)
        if isinstance(column, str):
            problems.append((column, cell.span or span))
        elif column is not None:
            found.append(column)
    problems += [(problem, span) for problem in _repeats(found)]
    scenario = next((column.scenario for column in found), "chat")
    for problem, at in problems:
        sink.add(TableColumn(at, path=table.shown, problem=problem, scenario=scenario))
    return None if problems else found


def _repeats(columns: list[_Column]) -> Iterator[str]:
    seen: set[tuple[str, str]] = set()
    for column in columns:
        if (column.scenario, column.metric) in seen:
            yield f"`{column.scenario}.{column.metric}` is there twice, in two units"
        seen.add((column.scenario, column.metric))


def _metric_column(name: str) -> _Column | str | None:
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
    return _Column(name, scenario, metric, ONE if scale == 1 else scale)


class _BadCell(Exception):
    def __init__(self, cell: Cell, problem: str) -> None:
        super().__init__(problem)
        self.cell, self.problem = cell, problem


@dataclass(slots=True)
class _RowReader:
    table: LongTable
    columns: list[_Column]
    layers: int
    problems: CellProblems

    def row(self, line: Line) -> Row | None:
        """One row, or None where a cell is bad (it is reported)."""
        try:
            if wrong := row_length(self.table, line):
                raise _BadCell(line.cell(-1), wrong)
            if written_run(self.table.text(line, "layer")) is not None:
                self._scored_alone(line, "a run of layers")
                return None
            if any(self.table.text(line, key) for key in END_KEYS):
                self._scored_alone(line, "an end of the model")
                return None
            values: dict[str, dict[str, Fraction]] = {}
            for column in self.columns:
                if (number := self._number(line, column.name)) is not None:
                    scaled = number if column.scale is ONE else number * column.scale
                    values.setdefault(column.scenario, {})[column.metric] = scaled
            return Row(
                line=line.number,
                span=line.cell(0).span,
                layer=self._layer(line),
                attention=self.table.text(line, "attention"),
                ffn=self.table.text(line, "ffn"),
                batch=self._whole(line, "batch"),
                params=self._whole(line, "params"),
                values=values,
            )
        except _BadCell as error:
            self.problems.add(line, error.cell, error.problem)
            return None

    def _scored_alone(self, line: Line, what: str) -> None:
        """Leave out a row of what has a score and no costs here. A cost in it is a mistake."""
        for name in (*MORE_KEYS, *(column.name for column in self.columns)):
            if text := self.table.text(line, name):
                self._refuse(line, name, f"{what} has a score and no costs: `{text[:40]}` is one")

    def _layer(self, line: Line) -> int | None:
        layer = self._whole(line, "layer")
        if layer is not None and layer >= self.layers:
            range = f"the parent's layers are 0 to {self.layers - 1}"
            self._refuse(line, "layer", f"layer {layer} is out of range: {range}")
        return layer

    def _number(self, line: Line, column: str) -> Fraction | None:
        """The number in a cell; None for an empty one."""
        text = self.table.text(line, column)
        number = _fraction(text) if text else None
        if text and number is None:
            self._refuse(line, column, f"`{text[:40]}` in column `{column}` is not a number of 0 or more")
        return number

    def _whole(self, line: Line, column: str) -> int | None:
        number = self._number(line, column)
        if number is not None and number.denominator != 1:
            text = self.table.text(line, column)
            self._refuse(line, column, f"`{text}` in column `{column}` is not a whole number")
        return None if number is None else int(number)

    def _refuse(self, line: Line, column: str, problem: str) -> NoReturn:
        raise _BadCell(self.table.at(line, column), problem)


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
