"""Read a score table from a user's file: a long table (see ir/long_table.py) with a score column.

A layer's score is its pair's row if there is one, else the sum of its two sub-blocks' rows. A row of layers `12-17` with `noop`
for both sub-blocks is the score of dropping the whole run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.registry import is_canonical
from puzzledsl.base.diagnostics import DiagnosticError, Sink, Span
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.base.suggest import closest
from puzzledsl.ir.layer_runs import Run, written_run
from puzzledsl.ir.long_table import (
    KEYS,
    MORE_KEYS,
    CellProblems,
    Line,
    LongTable,
    NoTable,
    header_problems,
    read_long_table,
    row_length,
)
from puzzledsl.ir.nodes import Score, ScoreFromTable, Space
from puzzledsl.ir.source_location import span_of
from puzzledsl.ir.tables import RunScore, ScoreTable
from puzzledsl.search.errors import ScoreTableCell, ScoreTableGap, ScoreTableUnreadable

SHOWN_GAPS = 3
COST_COLUMN = re.compile(r"[^.\[\]]+\.[^.\[\]]+(\[[^\[\]]*\])?")
Entries = dict[tuple[int, str, str], float]  # (layer, attention, ffn) -> score


def read_score_table(path: Path, score: Score, space: Space) -> ScoreTable:
    """Read a CSV file (or Parquet, if pyarrow is installed) with columns `layer`, `attention`, `ffn` and a score column.

    The score column is the one named like the score, else the only column that is not a cost. Rows with an empty score are
    skipped: they are about costs only. Raises DiagnosticError with all mistakes.
    """
    shown = score.method.path if isinstance(score.method, ScoreFromTable) else str(path)
    declared = span_of(score.where)
    try:
        table = read_long_table(path, shown)
    except NoTable as error:
        unreadable = ScoreTableUnreadable(declared, path=shown, reason=error.reason, help=error.help)
        raise DiagnosticError(unreadable) from error
    return _Reader(table, score, space, declared).read()


@dataclass
class _Reader:
    table: LongTable
    score: Score
    space: Space
    declared: Span
    sink: Sink = field(default_factory=Sink)
    _places: list[int] = field(default_factory=list)  # places of the key columns and the score column
    _runs: dict[Run, tuple[float, int]] = field(default_factory=dict)  # score and line number of each run
    _accepted: dict[SubBlock, set[str]] = field(default_factory=lambda: {"attention": {""}, "ffn": {""}})

    def read(self) -> ScoreTable:
        """Read the table. Raises DiagnosticError."""
        column = self._column()
        self._places = [self.table.names.index(key) for key in (*KEYS, column)]
        problems = CellProblems(self.table, self.declared, self.sink, ScoreTableCell)
        one: Entries = {}  # rows of one layer
        every: Entries = {}  # rows of every layer; rows of one layer take precedence
        first: dict[tuple[int, str, str, bool], int] = {}
        for line in self.table.lines:
            self._row(line, column, problems, one, every, first)
        problems.report()
        entries = every | one
        if not self.sink.has_errors:
            self._report_gaps(entries)
        if self.sink.has_errors:
            raise DiagnosticError(*self.sink.sorted())
        return self._scores(entries)

    def _column(self) -> str:
        """Return the name of the score column. Raises DiagnosticError if it is ambiguous or the header is wrong."""
        names = self.table.names
        own = [n for n in names if n and n not in (*KEYS, *MORE_KEYS) and not COST_COLUMN.fullmatch(n)]
        problems = list(header_problems(names))
        if not problems and self.score.name not in names:
            if not own:
                problems = ["there is no score column"]
            elif len(own) > 1:
                near = closest(self.score.name, own)
                meant = f": did you mean `score {near}`?" if near else ""
                problems = [f"none of its columns {', '.join(own)} is named `{self.score.name}`{meant}"]
        if problems:
            help = f"the first line is `layer,attention,ffn,{self.score.name}`"
            where = self.declared
            found = [
                ScoreTableUnreadable(where, path=self.table.shown, reason=p, help=help) for p in problems
            ]
            raise DiagnosticError(*found)
        return self.score.name if self.score.name in names else own[0]

    def _row(
        self,
        line: Line,
        column: str,
        problems: CellProblems,
        one: Entries,
        every: Entries,
        first: dict[tuple[int, str, str, bool], int],
    ) -> None:
        """Enter one row; report a mistake in it to `problems`."""
        if wrong := row_length(self.table, line):
            return problems.add(line, line.cell(-1), wrong)
        at = self.table.at
        layer, attention, ffn, number = (line.raw[place].strip() for place in self._places)
        if not number:
            return None
        value = _number(number)
        if value is None:
            problem = f"`{number[:40]}` in column `{column}` is no finite number"
            return problems.add(line, at(line, column), problem)
        if (run := written_run(layer)) is not None:
            return self._run(line, column, problems, run, value)
        if not attention and not ffn:
            return problems.add(line, at(line, column), "neither `attention` nor `ffn` is given")
        known = attention in self._accepted["attention"] or self._know(line, "attention", problems)
        known &= ffn in self._accepted["ffn"] or self._know(line, "ffn", problems)
        layers = self._layers(layer)
        if layers is None:
            problem = f"layer `{layer[:40]}` is not one of 0 to {len(self.space.layers) - 1}"
            return problems.add(line, at(line, "layer"), problem)
        if not known:
            return None
        entries, alone = (one, True) if layer else (every, False)
        for index in layers:
            key = (index, attention, ffn)
            if entries.get(key, value) != value:
                where = f"{self.table.word} {first[*key, alone]}"
                problem = f"this alternative is in {where} too, with another score"
                return problems.add(line, at(line, column), problem)
            entries[key] = value
            first.setdefault((*key, alone), line.number)
        return None

    def _run(self, line: Line, column: str, problems: CellProblems, run: Run, value: float) -> None:
        """Enter the score of a run of layers; report a mistake in it to `problems`."""
        for sub_block in KEYS[1:]:
            cell = self.table.at(line, sub_block)
            if cell.text != "noop":
                problem = (
                    f"a run of layers is dropped whole: its {sub_block} is `noop`, not `{cell.text[:40]}`"
                )
                return problems.add(line, cell, problem)
        if sum(run) > len(self.space.layers):
            cell = self.table.at(line, "layer")
            problem = f"`{cell.text}` is no run of layers 0 to {len(self.space.layers) - 1}"
            return problems.add(line, cell, problem)
        known, number = self._runs.setdefault(run, (value, line.number))
        if known != value:
            problem = f"this run is in {self.table.word} {number} too, with another score"
            return problems.add(line, self.table.at(line, column), problem)
        return None

    def _layers(self, text: str) -> range | None:
        """Return the layers that a cell names, all for an empty cell; None if there is no such layer."""
        count = len(self.space.layers)
        if not text:
            return range(count)
        if not text.isdecimal() or len(text) > 9 or int(text) >= count:
            return None
        return range(int(text), int(text) + 1)

    def _know(self, line: Line, sub_block: SubBlock, problems: CellProblems) -> bool:
        """True if a cell names a possible alternative, also one outside the space; else report the mistake to `problems`."""
        known = self._names[sub_block]
        name = self.table.text(line, sub_block)
        if not name or name in known or is_canonical(name, sub_block):
            self._accepted[sub_block].add(name)
            return True
        cell = self.table.at(line, sub_block)
        near = closest(cell.text, known)
        help = (
            f"did you mean `{near}`?" if near else f"names are as `pzl show` prints them: {', '.join(known)}"
        )
        problems.add(line, cell, f"`{cell.text[:40]}` is no {sub_block} alternative of the space", help)
        return False

    @cached_property
    def _names(self) -> dict[SubBlock, list[str]]:
        """Names of the space's alternatives by sub-block, `parent` first, then in the order of the space."""
        parts: tuple[SubBlock, SubBlock] = ("attention", "ffn")
        return {
            part: list(
                dict.fromkeys(["parent", *(a.name for c in self.space.layers for a in getattr(c, part))])
            )
            for part in parts
        }

    def _wanted(self, index: int) -> tuple[list[str], list[str]]:
        choice = self.space.layers[index]
        return [a.name for a in choice.attention], [f.name for f in choice.ffn]

    def _report_gaps(self, entries: Entries) -> None:
        """Report one diagnostic for all pairs that have neither their own row nor rows for both sub-blocks."""
        missing: dict[str, list[int]] = {}
        for index in range(len(self.space.layers)):
            attention, ffn = self._wanted(index)
            for a, f in product(attention, ffn):
                if (index, a, f) in entries:
                    continue
                for lacking in _lacking(entries, index, a, f):
                    layers = missing.setdefault(lacking, [])
                    if index not in layers:
                        layers.append(index)
        if missing:
            told = [f"{what} in {layers_in_words(layers)}" for what, layers in missing.items()]
            more = f" and {len(told) - SHOWN_GAPS} more" if len(told) > SHOWN_GAPS else ""
            text = ", ".join(told[:SHOWN_GAPS]) + more
            self.sink.add(ScoreTableGap(self.declared, path=self.table.shown, missing=text))

    def _scores(self, entries: Entries) -> ScoreTable:
        layers = range(len(self.space.layers))
        if not any(a and f for _, a, f in entries):
            return self._made(
                attention=tuple(_sub_blocks(entries, i, "attention", self._wanted(i)[0]) for i in layers),
                ffn=tuple(_sub_blocks(entries, i, "ffn", self._wanted(i)[1]) for i in layers),
            )
        pairs = tuple(
            {f"{a}/{f}": _pair(entries, i, a, f) for a, f in self._scored(entries, i)} for i in layers
        )
        return self._made(unit="block", pairs=pairs)

    def _scored(self, entries: Entries, layer: int) -> Iterator[tuple[str, str]]:
        """Yield a layer's pairs; the parent's own, which scores 0, only if the table has a row for it."""
        for pair in product(*self._wanted(layer)):
            if pair != ("parent", "parent") or (layer, *pair) in entries:
                yield pair

    def _made(self, **parts: object) -> ScoreTable:
        runs = tuple(
            RunScore(first=f, length=n, value=value) for (f, n), (value, _) in sorted(self._runs.items())
        )
        fields = {"score": self.score.name, "metric": "table", "samples": 0, "runs": runs, **parts}
        return ScoreTable.model_validate(fields)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _sub_blocks(entries: Entries, layer: int, part: SubBlock, names: list[str]) -> dict[str, float]:
    keys = {n: (layer, n, "") if part == "attention" else (layer, "", n) for n in (*names, "parent")}
    return {name: entries[key] for name, key in keys.items() if key in entries}


def _pair(entries: Entries, layer: int, attention: str, ffn: str) -> float:
    """Return a layer's score: its pair's, or the sum of its sub-blocks' scores, a missing one counting as 0."""
    if (pair := entries.get((layer, attention, ffn))) is not None:
        return pair
    return entries.get((layer, attention, ""), 0.0) + entries.get((layer, "", ffn), 0.0)


def _lacking(entries: Entries, layer: int, attention: str, ffn: str) -> list[str]:
    """Return descriptions of the rows that are missing for a pair without its own row; the parent's sub-blocks need none."""
    parts = [("attention", attention, (layer, attention, "")), ("ffn", ffn, (layer, "", ffn))]
    lacking = [f"{part} `{name}`" for part, name, key in parts if name != "parent" and key not in entries]
    if len(lacking) == 2 and any(a and f for _, a, f in entries):
        return [f"attention `{attention}` with ffn `{ffn}`"]
    return lacking
