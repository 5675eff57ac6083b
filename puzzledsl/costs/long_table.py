"""Tables in long format, made elsewhere: one row a (layer, attention, ffn) with the canonical names that `pzl show` prints.

layer,attention,ffn,kl,params,chat.memory[bytes],chat.latency[us]
0,gqa4,,0.0123,…          a sub-block: adds to the layer's other sub-block
0,gqa4,mlp21504,0.31,…    a pair measured together: the whole of its layer, in place of its two sub-blocks
,noop,,0.5,…              every layer; a row of one layer overrules it
12-17,noop,noop,0.9,…     a score alone: layers 12 to 17 dropped together

The ends of the model have columns of their own, `embedding` and `head`: a row with a name in one of them has a score alone.

CSV (UTF-8). One file can hold scores and costs: whoever reads it takes its own columns. This
module gives cells with their places in the file; what they mean is for `search` (scores) and `cost`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.base.diagnostics import Diagnostic, Label, Sink, Span
from puzzledsl.base.frozen import record
from puzzledsl.ir.facts import Run

KEYS = ("layer", "attention", "ffn")
MORE_KEYS = ("batch", "params")
END_KEYS: tuple[EndName, ...] = ("embedding", "head")
_RUN = re.compile(r"(\d{1,9})\s*-\s*(\d{1,9})")
HELP_UTF8 = "save it as UTF-8"
HELP_HEADER = "CSV with a header line is expected: `layer,attention,ffn,…`"
HELP_PATH = "the path is relative to the `.pzl` file"


class NoTable(Exception):
    """A file that cannot be read as a table; `help` is a help line on the remedy."""

    def __init__(self, reason: str, help: str) -> None:
        super().__init__(reason)
        self.reason, self.help = reason, help


@record
class Cell:
    """The text of one cell, stripped of blanks, and its span; None for a cell that is not there."""

    text: str
    span: Span | None


@record
class Line:
    """One row: the texts of its cells, with surrounding blanks.

    `number` is its line. `shown` is the file's name in diagnostics. `source` is the first line of a row that contains quotes or
    spans lines; else None.
    """

    number: int
    raw: tuple[str, ...]
    shown: str
    source: str | None

    def cell(self, place: int) -> Cell:
        """Return one cell and its span in the file: its stripped text, or the whole line if the row is quoted."""
        raw = self.raw[place]
        text = raw.strip()
        if self.source is not None:
            return Cell(text, Span(self.shown, self.number, 1, self.number, len(self.source) + 1))
        start = 1 + sum(len(before) + 1 for before in self.raw[:place]) + len(raw) - len(raw.lstrip())
        return Cell(text, Span(self.shown, self.number, start, self.number, start + max(len(text), 1)))


@record
class LongTable:
    """The header and the non-blank rows of a file."""

    shown: str
    header: tuple[Cell, ...]
    lines: tuple[Line, ...]

    @property
    def names(self) -> list[str]:
        """Return the columns' names."""
        return [cell.text for cell in self.header]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in reversed([*enumerate(self.names)])}

    def column(self, name: str) -> int | None:
        """Return the index of a column; None if there is none."""
        return self._places.get(name)

    def text(self, line: Line, name: str) -> str:
        """Return the text of a row's cell in a column; empty if there is no such column or the row is too short."""
        place = self._places.get(name)
        return line.raw[place].strip() if place is not None and place < len(line.raw) else ""

    def at(self, line: Line, name: str) -> Cell:
        """Return a row's cell in a column; an empty cell if there is no such column or the row is too short."""
        place = self._places.get(name)
        return line.cell(place) if place is not None and place < len(line.raw) else Cell("", None)


def read_long_table(file: Path, shown: str) -> LongTable:
    """Read a CSV file. `shown` is its name in diagnostics and spans. Raises NoTable."""
    if file.suffix == ".parquet":
        raise NoTable("it is Parquet", "save it as CSV: pandas' `to_csv` writes one")
    try:
        table = _csv(file, shown)
    except OSError as error:
        raise NoTable(error.strerror or "not readable", HELP_PATH) from error
    except UnicodeDecodeError as error:
        raise NoTable("it is not UTF-8 text", HELP_UTF8) from error
    except (csv.Error, ValueError) as error:
        raise NoTable(str(error).split("\n")[0], HELP_HEADER) from error
    if not table.header:
        raise NoTable("it is empty", HELP_HEADER)
    return table


def _csv(file: Path, shown: str) -> LongTable:
    with file.open(newline="", encoding="utf-8-sig") as text:
        texts = text.read().splitlines(keepends=True)
    reader = csv.reader(texts, strict=True)
    lines: list[Line] = []
    first = 1
    for values in reader:
        last = reader.line_num
        source = texts[first - 1] if first <= len(texts) else ""
        plain = first == last and '"' not in source
        lines.append(Line(first, tuple(values), shown, None if plain else source.rstrip("\r\n")))
        first = last + 1
    head, *rows = [row for row in lines if any(map(str.strip, row.raw))] or [Line(1, (), shown, None)]
    return LongTable(shown, tuple(head.cell(place) for place in range(len(head.raw))), tuple(rows))


@dataclass(slots=True)
class CellProblems:
    """Diagnostics of a table's cells. A mistake shared by many rows is one diagnostic, at the first of these rows."""

    table: LongTable
    declared: Span
    sink: Sink
    make: Callable[..., Diagnostic]
    _seen: dict[tuple[str, str], tuple[Cell, set[int]]] = field(default_factory=dict)

    def add(self, line: Line, cell: Cell, problem: str, help: str = "") -> None:
        """Record a mistake in one cell, or in a whole row (then `cell` is any cell of the row)."""
        self._seen.setdefault((problem, help), (cell, set()))[1].add(line.number)

    def report(self) -> None:
        """Report every mistake, in the order of the file: `line 7`, `line 7 and 79 more`."""
        for (problem, help), (cell, numbers) in self._seen.items():
            more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
            diagnostic = self.make(
                cell.span or self.declared,
                path=self.table.shown,
                line=f"line {min(numbers)}{more}",
                problem=problem,
                help=help,
                secondary=[Label(self.declared, "read here")] if cell.span is not None else (),
            )
            self.sink.add(diagnostic)


def row_length(table: LongTable, line: Line) -> str:
    """Describe a row whose length differs from the header's; empty if they agree."""
    got, wanted = len(line.raw), len(table.header)
    return "" if got == wanted else f"{got} cell{'s' * (got != 1)} under {wanted} columns"


def written_run(text: str) -> Run | None:
    """The run that `12-17` means; None for any other text, and for a run of fewer than two layers."""
    match = _RUN.fullmatch(text.strip())
    if match is None:
        return None
    first, last = map(int, match.groups())
    return (first, last - first + 1) if last > first else None


def header_problems(names: list[str]) -> Iterable[str]:
    """Yield the mistakes that any table's header can have: a missing column, a duplicate column."""
    yield from (f"there is no `{key}` column" for key in KEYS if key not in names)
    yield from (
        f"column `{name}` is there twice" for name in sorted({n for n in names if names.count(n) > 1})
    )
