"""Tables in long format, made elsewhere: one row a (layer, attention, ffn) with the canonical names that `pzl show` prints.

layer,attention,ffn,kl,params,chat.memory[bytes],chat.latency[us]
0,gqa4,,0.0123,…          a sub-block: adds to the layer's other sub-block
0,gqa4,mlp21504,0.31,…    a pair measured together: the whole of its layer, in place of its two sub-blocks
,noop,,0.5,…              every layer; a row of one layer overrules it
12-17,noop,noop,0.9,…     a score alone: layers 12 to 17 dropped together

The ends of the model have columns of their own, `embedding` and `head`: a row with a name in one of them has a score alone.

CSV (UTF-8). One file can hold scores and costs: whoever reads it takes its own columns. This
module gives rows with their places in the file; what they mean is for `search` (scores) and `cost`.
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
class Line:
    """One row: the texts of its cells, without blanks around them, its place in the file, and the number of its line."""

    cells: tuple[str, ...]
    span: Span

    @property
    def number(self) -> int:
        """The first line of the row."""
        return self.span.line


@record
class LongTable:
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
        yield from (
            f"column `{name}` is there twice" for name in sorted({n for n in names if names.count(n) > 1})
        )


def read_long_table(file: Path, shown: str) -> LongTable:
    """Read a CSV file. `shown` is its name in diagnostics and spans. Raises NoTable."""
    if file.suffix == ".parquet":
        raise NoTable("it is Parquet", "save it as CSV: pandas' `to_csv` writes one")
    try:
        lines = _csv(file, shown)
    except OSError as error:
        raise NoTable(error.strerror or "not readable", HELP_PATH) from error
    except UnicodeDecodeError as error:
        raise NoTable("it is not UTF-8 text", HELP_UTF8) from error
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
    """Diagnostics of a table's rows. A mistake shared by many rows is one diagnostic, at the first of these rows."""

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
    """The run that `12-17` means; None for any other text, and for a run of fewer than two layers."""
    match = _RUN.fullmatch(text)
    if match is None:
        return None
    first, last = map(int, match.groups())
    return (first, last - first + 1) if last > first else None
