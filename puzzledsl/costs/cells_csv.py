"""Files of a calibration: throughput figures in CSV, one row a cell, `#` lines are notes; and the fitted profile as a program.

hardware,model,gpus,expert_parallel,dtype,experts,activations,kv_cache,prompt,output,batch,throughput,use
h100_sxm,llama3_1_70b,2,,fp8,,,fp8,128,2048,,6651,fit

`throughput` is in generated tokens a second of all GPUs together; `batch` empty: as many sequences as fit; `use`: `fit`,
`held_out` or `skip`. Columns may be left out but for `model`, `prompt`, `output` and `throughput`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from puzzledsl.base.diagnostics import Sink
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import closest
from puzzledsl.costs.calibrate import BOUNDS, Cell, Fit
from puzzledsl.costs.dtypes import DTYPE_BYTES
from puzzledsl.costs.errors import CellsColumn, CellsUnreadable, CellsValue
from puzzledsl.costs.long_table import Cell as TextCell
from puzzledsl.costs.long_table import Line, LongTable, NoTable, header_problems, read_long_table, row_length
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
USES = ("fit", "held_out", "skip")


@record
class Cells:
    """The cells to fit constants to, and those to judge them by."""

    fitted: tuple[Cell, ...]
    held_out: tuple[Cell, ...]


def read_cells(
    file: Path,
    default: RooflineHardware,
    profiles: Mapping[str, RooflineHardware],
    shapes: Mapping[str, Shape],
    sink: Sink,
) -> Cells:
    """Read a file of cells; every mistake goes to `sink`. `default` is the profile where a row names none."""
    found: dict[str, list[Cell]] = {use: [] for use in USES}
    try:
        table = read_long_table(file, str(file), notes="#")
    except NoTable as error:
        sink.add(CellsUnreadable(None, path=file, reason=error.reason))
        return Cells((), ())
    if _header_is_good(table, sink):
        for line in table.lines:
            row = _Row(table, line, sink)
            if wrong := row_length(table, line):
                row.refuse(line.cell(0), wrong)
                continue
            cell, use = _cell(row, default, profiles, shapes), row.word("use", USES, "held_out")
            if cell and use:
                found[use].append(cell)
    return Cells(tuple(found["fit"]), tuple(found["held_out"]))


def _header_is_good(table: LongTable, sink: Sink) -> bool:
    meant = {name: closest(name, COLUMNS) for name in table.names if name not in COLUMNS}
    problems = [*header_problems([meant.get(name) or name for name in table.names], NEEDED)]
    problems += [
        f"column `{name}` is not understood" + (f"; did you mean `{near}`?" if near else "")
        for name, near in meant.items()
    ]
    for problem in problems:
        sink.add(CellsColumn(table.header[0].span, problem=problem, columns=", ".join(COLUMNS)))
    return not problems


def _cell(
    row: _Row,
    default: RooflineHardware,
    profiles: Mapping[str, RooflineHardware],
    shapes: Mapping[str, Shape],
) -> Cell | None:
    """One row, or None where something in it is wrong (each mistake is reported)."""
    before = len(row.sink.items)
    for name in NEEDED:
        if not row.text(name):
            row.refuse(row.table.at(row.line, name), f"`{name}` is empty")
    model, hardware = row.word("model", tuple(shapes)), row.word("hardware", tuple(profiles))
    wholes = {name: row.whole(name) for name in ("gpus", "expert_parallel", "prompt", "output", "batch")}
    speed, prompt, output = row.speed("throughput"), wholes["prompt"], wholes["output"]
    update: dict[str, str | int | None] = {
        field: row.word(name, tuple(DTYPE_BYTES)) for name, field in DTYPES.items()
    }
    update |= {"gpus": wholes["gpus"], "expert_parallel": wholes["expert_parallel"]}
    if len(row.sink.items) > before or not (model and speed and prompt and output):
        return None
    profile = profiles[hardware] if hardware else default
    return Cell(
        profile=profile.model_copy(update={name: value for name, value in update.items() if value}),
        shape=shapes[model],
        model=model,
        prompt=prompt,
        output=output,
        tokens_per_s=speed,
        batch=wholes["batch"],
        line=row.line.number,
    )


@record
class _Row:
    """A row; every method gives None for an empty cell, and for a wrong one, which it reports."""

    table: LongTable
    line: Line
    sink: Sink

    def text(self, name: str) -> str:
        return self.table.text(self.line, name)

    def refuse(self, cell: TextCell, problem: str) -> None:
        self.sink.add(CellsValue(cell.span, problem=problem))

    def wrong(self, name: str, problem: str) -> None:
        cell = self.table.at(self.line, name)
        self.refuse(cell, f"`{cell.text[:40]}` in column `{name}`{problem}")

    def word(self, name: str, words: tuple[str, ...], empty: str | None = None) -> str | None:
        text = self.text(name)
        if not text or text in words:
            return text or empty
        near = closest(text, words)
        self.wrong(name, f"; did you mean `{near}`?" if near else "; it is one of " + ", ".join(words))
        return None

    def whole(self, name: str) -> int | None:
        text = self.text(name)
        if text and not (text.isdecimal() and len(text) <= 12 and int(text) >= 1):
            self.wrong(name, " is not a whole number of 1 or more")
            return None
        return int(text) if text else None

    def speed(self, name: str) -> float | None:
        text, speed = self.text(name), -1.0
        with suppress(ValueError):
            speed = float(text)
        if text and not 0 < speed < 1e12:
            self.wrong(name, " is not a number of tokens a second")
        return speed if 0 < speed < 1e12 else None


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
