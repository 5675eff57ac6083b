"""Throughput figures in CSV: one row a cell, `#` lines are notes.

hardware,model,gpus,expert_parallel,dtype,experts,activations,kv_cache,prompt,output,batch,throughput,use
h100_sxm,llama3_1_70b,2,,fp8,,,fp8,128,2048,,6651,fit

`throughput` is in generated tokens a second of all GPUs together; `batch` empty: as many sequences as fit; `use`: `fit`,
`held_out` or `skip`. Columns may be left out but for `model`, `prompt`, `output` and `throughput`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from puzzledsl.base.diagnostics import Sink
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import closest
from puzzledsl.costs.calibrate import Cell
from puzzledsl.costs.dtypes import DTYPE_BYTES
from puzzledsl.costs.errors import CellsColumn, CellsUnreadable, CellsValue
from puzzledsl.costs.long_table import Cell as TextCell
from puzzledsl.costs.long_table import Line, LongTable, NoTable, header_problems, read_long_table, row_length
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
    update = {field: row.word(name, tuple(DTYPE_BYTES)) for name, field in DTYPES.items()}
    update |= {name: wholes[name] for name in ("gpus", "expert_parallel")}
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
