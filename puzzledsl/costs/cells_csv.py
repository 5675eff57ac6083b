"""Files of a calibration: throughput figures in CSV, one row a cell, `#` lines are notes; and the fitted profile as a program.

hardware,model,gpus,expert_parallel,dtype,experts,activations,kv_cache,prompt,output,batch,throughput,use
h100_sxm,llama3_1_70b,2,,fp8,,,fp8,128,2048,,6651,fit

`throughput` is in generated tokens a second of all GPUs together; `batch` empty: as many sequences as fit; `use`: `fit`,
`held_out` or `skip`. Columns may be left out but for `model`, `prompt`, `output` and `throughput`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import closest
from puzzledsl.costs.calibrate import BOUNDS, Cell, Fit
from puzzledsl.costs.dtypes import DTYPE_BYTES
from puzzledsl.costs.errors import CellsColumn, CellsUnreadable, CellsValue
from puzzledsl.ir.nodes import RooflineHardware, Shape
from puzzledsl.syntax.format import format_source

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


# ---------------------------------------------------------------- what is fitted to them

EFFICIENCY = "efficiency_"
TIMES = {"overhead_s": "overhead", "link_latency_s": "link_latency"}
MICROSECONDS = 10**6


def calibrated_name(profile: str) -> str:
    """Return the name of the calibrated profile."""
    return f"{profile}_calibrated"


def calibrated_text(profile: str, used_from: str, data: Path, sha256: str, cells: Cells, fit: Fit) -> str:
    """Return a program with one declaration: the profile (from the file `used_from`) with the fitted constants.

    Comments and settings record the provenance of the constants.
    """
    fitted = f"fitted to {len(cells.fitted)} cells of {data.name}"
    held = (
        f"{fit.error_held_out:.1%} mean error on {len(cells.held_out)} others"
        if fit.error_held_out is not None
        else "no cells were held out"
    )
    shares = [
        f"{name.removeprefix(EFFICIENCY)} = {_decimal(value)}{_at_bound(name, value)}"
        for name, value in fit.constants.items()
        if name.startswith(EFFICIENCY)
    ]
    times = [
        f"{TIMES[name]} = {_decimal(value * MICROSECONDS)}us{_at_bound(name, value)}"
        for name, value in fit.constants.items()
        if name in TIMES
    ]
    lines = [
        f"# Written by `pzl calibrate {profile} --data {data.name}`.",
        f'use "{used_from}" ({profile})',
        "",
        f"## {profile}, {fitted}; {held}.",
        f"hardware {calibrated_name(profile)} of {profile} {{",
        *(["efficiency {", *shares, "}"] if shares else []),
        *times,
        f'calibration = "{fitted} (sha256 {sha256[:16]}); models: {_models(cells)}"',
        *([] if fit.error_held_out is None else [f"error = {fit.error_held_out * 100:.2f}%"]),
        "}",
        "",
    ]
    return format_source("\n".join(lines))


def _models(cells: Cells) -> str:
    return ", ".join(dict.fromkeys(cell.model for cell in cells.fitted))


def _decimal(value: Fraction) -> str:
    return f"{float(value):.10g}"


def _at_bound(name: str, value: Fraction) -> str:
    return "  # at its bound" if float(value) in BOUNDS[name] else ""


def report_lines(cells: Cells, fit: Fit) -> Sequence[str]:
    """Return the fitted constants and their errors as lines of text."""
    lines = [f"fitted {len(fit.constants)} constants to {len(cells.fitted)} cells"]
    for name, value in fit.constants.items():
        shown = f"{_decimal(value * MICROSECONDS)}us" if name in TIMES else _decimal(value)
        label = TIMES.get(name) or name.replace("_", " of ")
        lines.append(f"  {label:<24} {shown}{_at_bound(name, value).replace('  # ', ', ')}")
    lines.append(f"  error on these           {fit.error_fitted:.1%}")
    if fit.error_held_out is None:
        lines.append(
            "no cells were held out: mark some `held_out` in the `use` column to know how well this predicts"
        )
        return lines
    lines.append(f"held out: {len(cells.held_out)} cells, mean error {fit.error_held_out:.1%}")
    groups: dict[tuple[str, str, int], list[float]] = {}
    for cell, error in zip(cells.held_out, fit.errors, strict=True):
        groups.setdefault((cell.profile.profile, cell.model, cell.profile.gpus), []).append(error)
    for (hardware, model, gpus), errors in groups.items():
        mean = sum(map(abs, errors)) / len(errors)
        where = f"{model} on {gpus} x {hardware}"
        lines.append(f"  {where:<40} {len(errors):3} cells  {mean:6.1%}")
    return lines
