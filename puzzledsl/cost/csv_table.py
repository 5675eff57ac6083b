"""Long-format cost tables measured elsewhere: text cells to exact numbers in base units. CSV, or Parquet
where pyarrow is there.

layer,attention,ffn,params,chat.memory[bytes],chat.latency[us]
0,parent,,21500000,1073741824,112.5          a sub-block: adds to the layer's other sub-block
0,gqa2,mlp8192,,2147483648,301.25            a pair measured together: the layer's whole cost
,noop,,0,0,0                                 every layer
,,,1050000000,2100000000,400                 what no layer changes: embedding, norm, head
"""

from __future__ import annotations

import csv
import importlib
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from puzzledsl.cost.errors import TableCell, TableColumn, TableUnreadable
from puzzledsl.diagnostics import Sink, Span
from puzzledsl.suggest import closest
from puzzledsl.units import BYTES, TIME, UNITS, Dimension

KEYS = ("layer", "attention", "ffn")
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


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `layer` None: every layer. An empty `attention` or `ffn`: a sub-block; both empty: the fixed
    part.

    `values[scenario][metric]` is in bytes or seconds; metrics whose cell is empty are absent. `line` is the
    file's.
    """

    line: int
    layer: int | None
    attention: str
    ffn: str
    batch: int | None
    params: int | None
    values: dict[str, dict[str, Fraction]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A whole table: its rows and, by scenario, the metrics it has columns for."""

    path: str
    rows: tuple[Row, ...]
    metrics: dict[str, frozenset[str]]


@dataclass(slots=True)
class _Column:
    index: int
    scenario: str
    metric: str
    scale: Fraction


def read_measured(file: Path, shown: str, span: Span, layers: int, sink: Sink) -> Measured | None:
    """Read a table for a parent of `layers` layers. `shown` is its name in messages. Mistakes go to `sink`;
    None where it is unusable."""
    cells = _cells(file, shown, span, sink)
    if cells is None:
        return None
    header = [name.strip() for name in cells[0]]
    columns = _columns(header, shown, span, sink)
    if columns is None:
        return None
    reader = _RowReader(header, columns, shown, span, layers, sink)
    rows = (reader.row(line, texts) for line, texts in enumerate(cells[1:], start=2) if any(texts))
    metrics: dict[str, set[str]] = {}
    for column in columns:
        metrics.setdefault(column.scenario, set()).add(column.metric)
    return Measured(
        shown, tuple(row for row in rows if row), {name: frozenset(found) for name, found in metrics.items()}
    )


def _cells(file: Path, shown: str, span: Span, sink: Sink) -> list[list[str]] | None:
    try:
        cells = _parquet_cells(file) if file.suffix == ".parquet" else _csv_cells(file)
    except ModuleNotFoundError:
        help = "`pip install pyarrow`, or save it as CSV"
        sink.add(TableUnreadable(span, path=shown, reason="reading Parquet needs pyarrow", help=help))
    except OSError as error:
        help = "the path is relative to the `.pzl` file"
        sink.add(TableUnreadable(span, path=shown, reason=error.strerror or "not readable", help=help))
    except (csv.Error, ValueError) as error:
        reason = (
            "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error).split("\n")[0]
        )
        sink.add(TableUnreadable(span, path=shown, reason=reason, help="CSV with a header line is expected"))
    else:
        if cells:
            return cells
        sink.add(
            TableUnreadable(span, path=shown, reason="it is empty", help="CSV with a header line is expected")
        )
    return None


def _csv_cells(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        return [[cell.strip() for cell in row] for row in csv.reader(text, strict=True)]


def _parquet_cells(file: Path) -> list[list[str]]:
    table = importlib.import_module("pyarrow.parquet").read_table(file)
    rows = [
        ["" if row[name] is None else str(row[name]) for name in table.column_names]
        for row in table.to_pylist()
    ]
    return [list(table.column_names), *rows]


def _columns(header: list[str], shown: str, span: Span, sink: Sink) -> list[_Column] | None:
    """The metric columns, or None where the header is not understood (each mistake is reported)."""
    problems: list[str] = []
    found: list[_Column] = []
    problems += [f"there is no `{key}` column" for key in KEYS if key not in header]
    problems += [
        f"column `{name}` is there twice" for name in sorted({n for n in header if header.count(n) > 1})
    ]
    for index, name in enumerate(header):
        if name in (*KEYS, "batch", "params"):
            continue
        column = _metric_column(index, name)
        if isinstance(column, str):
            problems.append(column)
        else:
            found.append(column)
    seen: set[tuple[str, str]] = set()
    for column in found:
        if (column.scenario, column.metric) in seen:
            problems.append(f"`{column.scenario}.{column.metric}` is there twice, in two units")
        seen.add((column.scenario, column.metric))
    scenario = next((column.scenario for column in found), "chat")
    for problem in problems:
        sink.add(TableColumn(span, path=shown, problem=problem, scenario=scenario))
    return None if problems else found


def _metric_column(index: int, name: str) -> _Column | str:
    """The column a header names, or what is wrong with it."""
    match = _HEADER.fullmatch(name)
    if match is None:
        near = closest(name, (*KEYS, "batch", "params"))
        return f"column `{name}` is not understood" + (f"; did you mean `{near}`?" if near else "")
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
    return _Column(index, scenario, metric, scale)


class _BadCell(Exception):
    pass


@dataclass(slots=True)
class _RowReader:
    header: list[str]
    columns: list[_Column]
    shown: str
    span: Span
    layers: int
    sink: Sink

    def row(self, line: int, texts: list[str]) -> Row | None:
        """One row, or None where a cell is bad (it is reported)."""
        try:
            if len(texts) != len(self.header):
                raise _BadCell(f"{len(texts)} cells under {len(self.header)} columns")
            named = dict(zip(self.header, texts, strict=True))
            values: dict[str, dict[str, Fraction]] = {}
            for column in self.columns:
                if text := texts[column.index]:
                    number = _number(text, self.header[column.index])
                    values.setdefault(column.scenario, {})[column.metric] = number * column.scale
            return Row(
                line=line,
                layer=self._layer(named["layer"]),
                attention=named["attention"],
                ffn=named["ffn"],
                batch=_whole(named.get("batch", ""), "batch"),
                params=_whole(named.get("params", ""), "params"),
                values=values,
            )
        except _BadCell as error:
            self.sink.add(TableCell(self.span, path=self.shown, line=line, problem=str(error)))
            return None

    def _layer(self, text: str) -> int | None:
        layer = _whole(text, "layer")
        if layer is not None and layer >= self.layers:
            raise _BadCell(f"layer {layer} is out of range: the parent's layers are 0 to {self.layers - 1}")
        return layer


def _number(text: str, column: str) -> Fraction:
    if _NUMBER.fullmatch(text) is None or len(text) > 60:
        raise _BadCell(f"`{text[:40]}` in column `{column}` is not a number of 0 or more")
    return Fraction(text)


def _whole(text: str, column: str) -> int | None:
    if not text:
        return None
    number = _number(text, column)
    if number.denominator != 1:
        raise _BadCell(f"`{text}` in column `{column}` is not a whole number")
    return int(number)
