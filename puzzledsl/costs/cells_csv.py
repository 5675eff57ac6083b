"""Throughput figures in CSV: one row a cell, `#` lines are notes.

hardware,model,gpus,expert_parallel,dtype,experts,activations,kv_cache,prompt,output,batch,throughput,use
h100_sxm,llama3_1_70b,2,,fp8,,,fp8,128,2048,,6651,fit

`throughput` is in generated tokens a second of all GPUs together; `batch` empty: as many sequences as fit; `use`: `fit`,
`held_out` or `skip`. Columns may be left out but for `model`, `prompt`, `output` and `throughput`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import closest
from puzzledsl.costs.calibrate import Cell
from puzzledsl.costs.dtypes import DTYPE_BYTES
from puzzledsl.costs.errors import CellsColumn, CellsUnreadable, CellsValue
from puzzledsl.ir.nodes import RooflineHardware, Shape

NEEDED = ("model", "prompt", "output", "throughput")
DTYPES = {
    "dtype": "dtype",
    "experts": "expert_dtype",
    "activations": "activation_dtype",
    "kv_cache": "kv_dtype",
}
"""Column -> field of a profile."""
COLUMNS = (
    *("hardware", "model", "gpus", "expert_parallel", *DTYPES),
    *("prompt", "output", "batch", "throughput", "use"),
)
T = TypeVar("T")
USES = ("fit", "held_out", "skip")


@record
class Cells:
    """The cells to fit constants to, and those to judge them by."""

    fitted: tuple[Cell, ...]
    held_out: tuple[Cell, ...]


@record
class _Line:
    number: int
    text: str

    def span(self, file: str) -> Span:
        return Span(file, self.number, 1, self.number, max(2, len(self.text) + 1))


def read_cells(
    file: Path,
    default: RooflineHardware,
    profiles: Mapping[str, RooflineHardware],
    shapes: Mapping[str, Shape],
    sink: Sink,
) -> Cells:
    """Read a file of cells; every mistake goes to `sink`. `default` is the profile where a row names none."""
    lines = _lines(file, sink)
    if not lines:
        return Cells((), ())
    header = _cells(lines[0])
    if not _header_is_good(header, lines[0].span(str(file)), sink):
        return Cells((), ())
    reader = _Reader(str(file), default, profiles, shapes, sink)
    found: dict[str, list[Cell]] = {use: [] for use in USES}
    for line in lines[1:]:
        texts = _cells(line)
        if len(texts) != len(header):
            reader.report(line, f"{len(texts)} cells under {len(header)} columns")
            continue
        row = {name: text for name, text in zip(header, texts, strict=True) if text}
        cell, use = reader.cell(line, row), reader.word(line, row.get("use", "held_out"), USES, "use")
        if cell and use:
            found[use].append(cell)
    return Cells(tuple(found["fit"]), tuple(found["held_out"]))


def _lines(file: Path, sink: Sink) -> list[_Line]:
    """The lines that are no notes, the header first."""
    span = Span(str(file), 1, 1, 1, 2)
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror or "not readable" if isinstance(error, OSError) else "it is not UTF-8 text"
        sink.add(CellsUnreadable(None, path=file, reason=reason))
        return []
    lines = [_Line(n, t) for n, t in enumerate(text.splitlines(), 1) if t.strip() and not t.startswith("#")]
    if not lines:
        sink.add(CellsUnreadable(span, path=file, reason="it has no rows"))
    return lines


def _cells(line: _Line) -> list[str]:
    return [cell.strip() for cell in next(iter(csv.reader([line.text])))]


def _header_is_good(header: list[str], span: Span, sink: Sink) -> bool:
    meant = {name: closest(name, COLUMNS) for name in header if name not in COLUMNS}
    there = {*header, *meant.values()}
    problems = [f"there is no `{name}` column" for name in NEEDED if name not in there]
    problems += [
        f"column `{name}` is not understood" + (f"; did you mean `{near}`?" if near else "")
        for name, near in meant.items()
    ]
    problems += [f"column `{n}` is there twice" for n in sorted({n for n in header if header.count(n) > 1})]
    for problem in problems:
        sink.add(CellsColumn(span, problem=problem, columns=", ".join(COLUMNS)))
    return not problems


@record
class _Reader:
    file: str
    default: RooflineHardware
    profiles: Mapping[str, RooflineHardware]
    shapes: Mapping[str, Shape]
    sink: Sink

    def report(self, line: _Line, problem: str) -> None:
        self.sink.add(CellsValue(line.span(self.file), problem=problem))

    def cell(self, line: _Line, row: Mapping[str, str]) -> Cell | None:
        """One row, or None where something in it is wrong (each mistake is reported)."""
        for name in NEEDED:
            if name not in row:
                self.report(line, f"`{name}` is empty")
        before = len(self.sink.items)
        shape = self._named(line, self.shapes, row.get("model"), "model")
        profile = self._named(line, self.profiles, row.get("hardware"), "hardware") or self.default
        wholes = {
            n: self._whole(line, row, n) for n in ("gpus", "expert_parallel", "prompt", "output", "batch")
        }
        speed = self._speed(line, row.get("throughput", ""))
        dtypes = {
            field: found
            for name, field in DTYPES.items()
            if name in row and (found := self.word(line, row[name], tuple(DTYPE_BYTES), name))
        }
        if len(self.sink.items) > before or not (shape and speed and wholes["prompt"] and wholes["output"]):
            return None
        gpus = {name: number for name in ("gpus", "expert_parallel") if (number := wholes[name])}
        return Cell(
            profile=profile.model_copy(update={**dtypes, **gpus}),
            shape=shape,
            model=row["model"],
            prompt=wholes["prompt"],
            output=wholes["output"],
            tokens_per_s=speed,
            batch=wholes["batch"],
            line=line.number,
        )

    def word(self, line: _Line, text: str, words: tuple[str, ...], column: str) -> str | None:
        """One of a few words."""
        if text in words:
            return text
        near = closest(text, words)
        hint = f"did you mean `{near}`?" if near else "it is one of " + ", ".join(words)
        self.report(line, f"`{text[:40]}` in column `{column}`; {hint}")
        return None

    def _named(self, line: _Line, known: Mapping[str, T], name: str | None, column: str) -> T | None:
        if name is None:
            return None
        found = self.word(line, name, tuple(known), column)
        return known[found] if found else None

    def _whole(self, line: _Line, row: Mapping[str, str], name: str) -> int | None:
        text = row.get(name)
        if text is None:
            return None
        if not text.isdecimal() or len(text) > 12 or int(text) < 1:
            self.report(line, f"`{text[:40]}` in column `{name}` is not a whole number of 1 or more")
            return None
        return int(text)

    def _speed(self, line: _Line, text: str) -> float | None:
        try:
            speed = float(text)
        except ValueError:
            speed = -1.0
        if text and not 0 < speed < 1e12:
            self.report(line, f"`{text[:40]}` in column `throughput` is not a number of tokens a second")
        return speed if 0 < speed < 1e12 else None
