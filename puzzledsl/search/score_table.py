"""Scores made elsewhere: one row an alternative (a sub-block), or a pair measured together.

layer,attention,ffn,kl
0,gqa2,,0.0123          a sub-block: a layer's score is the sum of its two
0,gqa2,linear,0.31      a pair: then every row is one
,noop,,0.5              every layer
"""

from __future__ import annotations

import csv
import importlib
import math
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from puzzledsl.diagnostics import Diagnostic, DiagnosticError, Sink
from puzzledsl.ir.alternatives import name_of
from puzzledsl.ir.nodes import Score, ScoreFromTable, Space
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.search.errors import ScoreTableCell, ScoreTableGap, ScoreTableUnreadable, span_of
from puzzledsl.suggest import closest

KEYS = ("layer", "attention", "ffn")
SHOWN_GAPS = 3
Entries = dict[tuple[int, str, str], float]  # (layer, attention, ffn) -> score


def read_score_table(path: Path, score: Score, space: Space) -> ScoreTable:
    """Read a CSV file (or Parquet, where pyarrow is there) with columns `layer`, `attention`, `ffn` and one more: the score.

    That column is the one named like the score, else the only one left. Raises DiagnosticError with every mistake.
    """
    return _Reader(path, score, space).read()


@dataclass(slots=True)
class _Reader:
    path: Path
    score: Score
    space: Space
    sink: Sink = field(default_factory=Sink)

    def read(self) -> ScoreTable:
        """The table. Raises DiagnosticError."""
        cells = self._cells()
        column = self._value_column([name.strip() for name in cells[0]])
        header = {name.strip(): i for i, name in enumerate(cells[0])}
        one: Entries = {}  # rows of one layer
        every: Entries = {}  # rows of every layer, which those of one layer override
        for line, row in enumerate(cells[1:], start=2):
            if any(cell.strip() for cell in row):
                self._add(one, every, line, [c.strip() for c in row], header, column)
        self._stop()
        table = self._table(every | one)
        self._stop()
        return table

    def _stop(self) -> None:
        if self.sink.has_errors:
            raise DiagnosticError(*self.sink.sorted())

    def _cells(self) -> list[list[str]]:
        try:
            cells = _parquet(self.path) if self.path.suffix == ".parquet" else _csv(self.path)
        except ModuleNotFoundError:
            raise self._unreadable(
                "reading Parquet needs pyarrow", "`pip install pyarrow`, or save it as CSV"
            ) from None
        except OSError as error:
            help = "the path is relative to the `.pzl` file"
            raise self._unreadable(error.strerror or "not readable", help) from error
        except UnicodeDecodeError as error:
            raise self._unreadable("it is not UTF-8 text", "save it as UTF-8") from error
        except (csv.Error, ValueError) as error:
            raise self._unreadable(str(error).split("\n")[0], "CSV with a header line is expected") from error
        if not cells:
            raise self._unreadable(
                "it is empty", f"the first line is `layer,attention,ffn,{self.score.name}`"
            )
        return cells

    def _unreadable(self, reason: str, help: str) -> DiagnosticError:
        where = span_of(self.score.where)
        return DiagnosticError(ScoreTableUnreadable(where, path=self._shown, reason=reason, help=help))

    @property
    def _shown(self) -> str:
        method = self.score.method
        return method.path if isinstance(method, ScoreFromTable) else str(self.path)

    def _value_column(self, header: list[str]) -> str:
        missing = [key for key in KEYS if key not in header]
        values = [name for name in header if name and name not in KEYS]
        help = f"the first line is `layer,attention,ffn,{self.score.name}`"
        if missing:
            raise self._unreadable(f"there is no `{missing[0]}` column", help)
        if len(set(header)) != len(header):
            raise self._unreadable("a column is there twice", help)
        if self.score.name in values:
            return self.score.name
        if len(values) == 1:
            return values[0]
        what = (
            "there is no score column"
            if not values
            else f"none of {', '.join(values)} is named `{self.score.name}`"
        )
        raise self._unreadable(what, help)

    def _bad(self, line: int, problem: str, help: str = "") -> None:
        self.sink.add(
            ScoreTableCell(span_of(self.score.where), path=self._shown, line=line, problem=problem, help=help)
        )

    def _add(
        self,
        one: Entries,
        every: Entries,
        line: int,
        row: list[str],
        header: dict[str, int],
        column: str,
    ) -> None:
        if len(row) != len(header):
            return self._bad(line, f"{len(row)} cells under {len(header)} columns")
        layer, attention, ffn, text = (row[header[key]] for key in (*KEYS, column))
        try:
            value = float(text)
        except ValueError:
            return self._bad(line, f"`{text[:40]}` in column `{column}` is not a number")
        if not math.isfinite(value):
            return self._bad(line, f"`{text[:40]}` in column `{column}` is not a finite number")
        if not attention and not ffn:
            return self._bad(line, "neither `attention` nor `ffn` is given")
        self._known(line, attention, ffn)
        entries = one if layer else every
        for index in self._layers(line, layer):
            if (index, attention, ffn) in entries:
                return self._bad(line, "this alternative is there twice")
            entries[index, attention, ffn] = value
        return None

    def _layers(self, line: int, text: str) -> range:
        count = len(self.space.layers)
        if not text:
            return range(count)
        if not text.isdecimal() or len(text) > 9 or int(text) >= count:
            self._bad(line, f"layer `{text[:40]}` is not one of 0 to {count - 1}")
            return range(0)
        return range(int(text), int(text) + 1)

    def _known(self, line: int, attention: str, ffn: str) -> None:
        """A misspelt alternative; one that another layer may have is no mistake."""
        for what, name, known in (
            ("attention", attention, self._names("attention")),
            ("ffn", ffn, self._names("ffn")),
        ):
            if name and name not in known:
                near = closest(name, known)
                self._bad(
                    line, f"no layer may have {what} `{name}`", f"did you mean `{near}`?" if near else ""
                )

    def _names(self, sub_block: str) -> frozenset[str]:
        return frozenset(name_of(a) for c in self.space.layers for a in getattr(c, sub_block)) | {"parent"}

    def _table(self, entries: Entries) -> ScoreTable:
        pairs = any(attention and ffn for _, attention, ffn in entries)
        if pairs and not all(attention and ffn for _, attention, ffn in entries):
            raise self._unreadable("some rows score a pair and some a sub-block", "score all of one kind")
        layers = range(len(self.space.layers))
        attention: list[dict[str, float]] = [{} for _ in layers]
        ffn: list[dict[str, float]] = [{} for _ in layers]
        together: list[dict[str, float]] = [{} for _ in layers]
        for (layer, a, f), value in sorted(entries.items()):
            if a and f:
                together[layer][f"{a}/{f}"] = value
            elif a:
                attention[layer][a] = value
            else:
                ffn[layer][f] = value
        self._report_gaps(attention, ffn, together if pairs else None)
        return ScoreTable(
            score=self.score.name,
            metric="table",
            samples=0,
            unit="block" if pairs else "subblock",
            attention=() if pairs else tuple(attention),
            ffn=() if pairs else tuple(ffn),
            pairs=tuple(together) if pairs else (),
        )

    def _report_gaps(
        self,
        attention: list[dict[str, float]],
        ffn: list[dict[str, float]],
        pairs: list[dict[str, float]] | None,
    ) -> None:
        missing = []
        for index, choice in enumerate(self.space.layers):
            names = [name_of(a) for a in choice.attention], [name_of(f) for f in choice.ffn]
            if pairs is not None:
                wanted = [f"{a}/{f}" for a, f in product(*names) if (a, f) != ("parent", "parent")]
                missing += [f"layer {index} `{key}`" for key in wanted if key not in pairs[index]]
                continue
            missing += [
                f"layer {index} attention `{a}`"
                for a in names[0]
                if a != "parent" and a not in attention[index]
            ]
            missing += [f"layer {index} ffn `{f}`" for f in names[1] if f != "parent" and f not in ffn[index]]
        if missing:
            more = f" and {len(missing) - SHOWN_GAPS} more" if len(missing) > SHOWN_GAPS else ""
            gap: Diagnostic = ScoreTableGap(
                span_of(self.score.where), path=self._shown, missing=", ".join(missing[:SHOWN_GAPS]) + more
            )
            self.sink.add(gap)


def _csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as text:
        return list(csv.reader(text, strict=True))


def _parquet(path: Path) -> list[list[str]]:
    table = importlib.import_module("pyarrow.parquet").read_table(path)
    names = list(table.column_names)
    return [names, *(["" if row[n] is None else str(row[n]) for n in names] for row in table.to_pylist())]
