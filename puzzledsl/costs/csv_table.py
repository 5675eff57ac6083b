"""Tables in long format, made elsewhere: one row a (layer, attention, ffn) with the canonical names that `pzl show` prints.

layer,attention,ffn,kl,params,chat.memory[bytes],chat.latency[us]
0,gqa4,,0.0123,…          a sub-block: adds to the layer's other sub-block
0,gqa4,mlp21504,0.31,…    a pair measured together: the whole of its layer, in place of its two sub-blocks
,noop,,0.5,…              every layer; a row of one layer overrules it
,,,,1050000000,2100000000,400   costs alone: what no layer changes, embedding, norm, head
12-17,noop,noop,0.9,…     a score alone: layers 12 to 17 dropped together

The ends of the model have columns of their own, `embedding` and `head`: a row with a name in one of them has a score alone.

CSV (UTF-8). One file can hold scores and costs. `search.score_table` reads the columns of scores, `read_measured` those of
costs, as exact numbers in base units. `csv_of` writes a cost table as such a file, for programs on other machines: times in
nanoseconds and sizes in bytes, so that reading the file gives exactly the same numbers.
"""

import csv
import functools
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.base.diagnostics import Diagnostic, Label, Mistake, Sink, Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import closest
from puzzledsl.base.units import BYTES, TIME, UNITS, Dimension
from puzzledsl.ir.facts import Run
from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts

KEYS = ("layer", "attention", "ffn")
MORE_KEYS = ("batch", "params")
END_KEYS: tuple[EndName, ...] = ("embedding", "head")
_RUN = re.compile(r"(\d{1,9})\s*-\s*(\d{1,9})")
HELP_HEADER = "CSV with a header line is expected: `layer,attention,ffn,…`"


TableUnreadable = Mistake("E1011", "cannot read the cost table `{path}`: {reason}", "{help}")
TableColumn = Mistake(
    "E1012",
    "`{path}`: {problem}",
    "columns: `layer`, `attention`, `ffn`, and `SCENARIO.METRIC[UNIT]` such as `{scenario}.latency[us]`",
)
TableCell = Mistake("E1014", "`{path}` {line}: {problem}", "{help}")


class NoTable(Exception):
    """A file that cannot be read as a table; `help` is a help line on the remedy."""

    def __init__(self, reason: str, help: str) -> None:
        super().__init__(reason)
        self.reason, self.help = reason, help


class Line(Record):
    """One row: the texts of its cells, without blanks around them, and its place in the file."""

    cells: tuple[str, ...]
    span: Span

    @property
    def number(self) -> int:
        """The number of the row's first line in the file, from 1."""
        return self.span.line


class LongTable(Record):
    """The header and the non-blank rows of a file, which diagnostics call `shown`."""

    shown: str
    header: Line
    lines: tuple[Line, ...]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in reversed([*enumerate(self.header.cells)])}

    def text(self, line: Line, name: str) -> str:
        """Return the text of a row's cell in a column; empty if there is no such column or the row is too short."""
        place = self._places.get(name)
        return line.cells[place] if place is not None and place < len(line.cells) else ""

    def row_length(self, line: Line) -> str:
        """Describe a row whose length differs from the header's; empty if they agree."""
        got, wanted = len(line.cells), len(self.header.cells)
        return "" if got == wanted else f"{got} cell{'s' * (got != 1)} under {wanted} columns"

    def header_problems(self) -> Iterable[str]:
        """Yield the mistakes that any table's header can have: a missing column, a duplicate column."""
        names = self.header.cells
        yield from (f"there is no `{key}` column" for key in KEYS if key not in names)
        twice = sorted({name for name in names if names.count(name) > 1})
        yield from (f"column `{name}` is there twice" for name in twice)


def read_long_table(file: Path, shown: str) -> LongTable:
    """Read a CSV file. `shown` is its name in diagnostics and spans. Raises NoTable."""
    if file.suffix == ".parquet":
        raise NoTable("it is Parquet", "save it as CSV: pandas' `to_csv` writes one")
    try:
        lines = _csv(file, shown)
    except OSError as error:
        raise NoTable(error.strerror or "not readable", "the path is relative to the `.pzl` file") from error
    except UnicodeDecodeError as error:
        raise NoTable("it is not UTF-8 text", "save it as UTF-8") from error
    except (csv.Error, ValueError) as error:
        raise NoTable(str(error).split("\n")[0], HELP_HEADER) from error
    if not lines:
        raise NoTable("it is empty", HELP_HEADER)
    return LongTable(shown, lines[0], tuple(lines[1:]))


def _csv(file: Path, shown: str) -> list[Line]:
    """Return the rows of a file that are not blank."""
    with file.open(newline="", encoding="utf-8-sig") as text:
        texts = text.read().splitlines(keepends=True)
    reader = csv.reader(texts, strict=True)
    found: list[Line] = []
    first = 1
    for values in reader:
        cells = tuple(map(str.strip, values))
        if any(cells):
            end = len(texts[first - 1].rstrip("\r\n")) + 1
            found.append(Line(cells, Span(shown, first, 1, first, end)))
        first = reader.line_num + 1
    return found


@dataclass(slots=True)
class RowProblems:
    """Collects mistakes of a table's rows: one diagnostic for each mistake, at its first row. `declared`: the program's place."""

    table: LongTable
    declared: Span
    sink: Sink
    make: Callable[..., Diagnostic]
    _seen: dict[tuple[str, str], list[Line]] = field(default_factory=dict)

    def add(self, line: Line, problem: str, help: str = "") -> None:
        """Record a mistake in a row."""
        self._seen.setdefault((problem, help), []).append(line)

    def report(self) -> None:
        """Report every mistake, in the order of the file: `line 7`, `line 7 and 79 more`."""
        for (problem, help), lines in self._seen.items():
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            said = {"path": self.table.shown, "line": f"line {lines[0].number}{more}", "problem": problem}
            read_here = [Label(self.declared, "read here")]
            self.sink.add(self.make(lines[0].span, **said, help=help, secondary=read_here))


def written_run(text: str) -> Run | None:
    """Return (first layer, length) of a text such as `12-17`; None for any other text, and for fewer than two layers."""
    match = _RUN.fullmatch(text)
    if match is None:
        return None
    first, last = map(int, match.groups())
    return (first, last - first + 1) if last > first else None


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


class Row(Record):
    """One row of a table. `values[scenario][metric]` is in bytes or seconds; an empty cell is absent.

    `layer` and `batch` None: every one. If `attention` or `ffn` is empty, it is about the other; if both are, the fixed part.
    """

    span: Span
    layer: int | None
    attention: str
    ffn: str
    batch: int | None
    params: int | None
    values: dict[str, dict[str, Fraction]]


class Measured(Record):
    """A whole table: its rows and, by scenario, the metrics it has columns for."""

    path: str
    rows: tuple[Row, ...]
    metrics: dict[str, frozenset[str]]


Columns = dict[str, tuple[str, str, Fraction]]
"""Name in the header -> scenario, metric, and the column's unit as a multiple of a byte or a second."""


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
    """Return the metric columns; None if the header has mistakes, each of which is reported to `sink`."""
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
    """Return (scenario, metric, unit) of a column's name; a sentence if it has a mistake; None for a column that is no cost."""
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
        meant = f"; did you mean `{near}`?" if (near := closest(metric, DIMENSIONS)) else ""
        return f"column `{name}`: there is no metric `{metric}`{meant}"
    scale, dimension = _EXTRA_UNITS.get(unit) or UNITS.get(unit) or (Fraction(0), None)
    if dimension != DIMENSIONS[metric]:
        example = "bytes` or `GiB" if DIMENSIONS[metric] == BYTES else "us` or `ms"
        return f"column `{name}`: `{unit}` does not measure {DIMENSIONS[metric].name}; write `{example}`"
    return scenario, metric, scale


class _BadRow(Exception):
    """A row with a mistake; the exception's text describes it."""


@dataclass(slots=True)
class _RowReader:
    table: LongTable
    columns: Columns
    layers: int

    def rows(self, line: Line) -> Iterator[Row]:
        """Yield the row's costs; nothing for a run of layers or an end of the model, which have only scores. Raises _BadRow."""
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
                values.setdefault(scenario, {})[metric] = number if scale == 1 else number * scale
        layer = self._whole(line, "layer")
        if layer is not None and layer >= self.layers:
            range = f"the parent's layers are 0 to {self.layers - 1}"
            raise _BadRow(f"layer {layer} is out of range: {range}")
        names = text(line, "attention"), text(line, "ffn")
        yield Row(line.span, layer, *names, self._whole(line, "batch"), self._whole(line, "params"), values)

    def _number(self, line: Line, column: str) -> Fraction | None:
        """Return the number in a cell; None for an empty one. Raises _BadRow for any other text."""
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
    """Return the number of 0 or more that a text writes; None for any other text."""
    return Fraction(text) if len(text) <= 60 and _NUMBER.fullmatch(text) else None


_WRITTEN = ("weights[bytes]", "kv_cache[bytes]", "ttft[ns]", "tpot[ns]")


def csv_of(table: CostTable) -> str:
    """Return a cost table as CSV text, every scenario at every batch. A profile's reserve is no part's cost, and is left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{scenario}.{metric}" for scenario in table.scenarios for metric in _WRITTEN]
    writer.writerow([*KEYS, *MORE_KEYS, *columns])
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
    """Yield (layer, name, cost): layer empty if the name costs the same in all layers that have it, else one for each of them."""
    for name in dict.fromkeys(name for layer in layers for name in layer):
        found = {index: layer[name] for index, layer in enumerate(layers) if name in layer}
        if len(set(found.values())) == 1:
            yield "", name, next(iter(found.values()))
        else:
            for index, cost in found.items():
                yield str(index), name, cost
