"""Read and check Puzzletron's files (NVIDIA Model Optimizer, modelopt.torch.puzzletron).

`subblock_stats.json`: a list of measurements, each with its `args` (batch, lengths, dtypes), the part that no layer
changes (`non_block`) and one entry per (sub-block configuration, layer). `…--validation/solution_N.json`: metrics of
the parent with one replacement; `teacher.json`: those of the parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.importing.imported import (
    NothingToImport,
    Replacement,
    checked_layer,
    is_number,
    read_json,
    unreadable,
)

STATS = "subblock_stats.json"
TEACHER = "teacher.json"
SOLUTIONS = "mip/puzzle_solutions/**/solutions.json"


@dataclass(slots=True)
class Artefacts:
    """Artefacts of a run. `args`: of the validation, if known."""

    path: Path
    replacements: list[Replacement] = field(default_factory=list)
    teacher_metrics: dict[str, Decimal] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    stats: list[Mapping[str, Any]] = field(default_factory=list)
    solutions: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


def read_artefacts(path: Path) -> Artefacts:
    """Find and read what is at `path`: a run's directory, or its validation folder. Raises DiagnosticError."""
    if not path.exists():
        raise DiagnosticError(NothingToImport(None, path=path, reason="it does not exist"))
    if not path.is_dir():
        raise DiagnosticError(
            NothingToImport(None, path=path, reason="it is a file, and no directory of a run")
        )
    found = Artefacts(path)
    if (path / STATS).is_file():
        found.stats = list(_stats(path / STATS))
    folders = [path, *sorted(p for p in path.iterdir() if p.is_dir())]
    validation = next((f for f in folders if any(f.glob("*solution_*.json"))), None)
    if validation is None:
        reason = (
            "no `solution_*.json` in it or its folders"
            if found.stats
            else f"neither `{STATS}` nor `solution_*.json`"
        )
        raise DiagnosticError(NothingToImport(None, path=path, reason=reason))
    _validation(found, validation)
    for file in sorted(path.glob(SOLUTIONS)):
        solutions = read_json(file)
        for solution in solutions if isinstance(solutions, list) else []:
            if isinstance(solution, dict):
                found.solutions.append((file.parent.name, solution))
    return found


def _stats(file: Path) -> Iterator[Mapping[str, Any]]:
    entries = read_json(file)
    if not isinstance(entries, list) or not entries:
        raise unreadable(file, "a list of measurements is expected")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"args", "non_block", "subblocks"} <= set(entry):
            raise unreadable(file, f"measurement {number} lacks `args`, `non_block` or `subblocks`")
        match entry:
            case {"args": dict(), "non_block": dict(), "subblocks": list(sub_blocks)}:
                if not all(map(_is_sub_block, sub_blocks)):
                    raise unreadable(file, f"a sub-block of measurement {number} has no `subblock_config`")
            case _:
                raise unreadable(file, f"measurement {number} is of another kind")
        yield entry


def _is_sub_block(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("subblock_config"), dict)


def _validation(found: Artefacts, folder: Path) -> None:
    for file in sorted(folder.glob("*solution_*.json"), key=lambda p: (len(p.name), p.name)):
        raw = read_json(file)
        solution = raw.get("puzzle_solution") if isinstance(raw, dict) else None
        if not isinstance(solution, dict):
            raise unreadable(file, "`puzzle_solution` is missing")
        layer, block = _placed(file, solution)
        found.replacements.append(Replacement(layer, block, _averages(raw)))
    teacher = folder / TEACHER
    if teacher.is_file():
        raw = read_json(teacher)
        if not isinstance(raw, dict):
            raise unreadable(teacher, "an object of metrics is expected")
        found.teacher_metrics = _averages(raw)
        args = raw.get("args")
        found.args = args if isinstance(args, dict) else {}


def _placed(file: Path, solution: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """The layer and the block that a validated solution replaces."""
    match solution:
        case {
            "single_sequence_replacement": {
                "parent_layer_indices": [int(layer)],
                "child_block_configs": [dict(block)],
            }
        }:
            return checked_layer(file, layer), block
        case {"single_block_replacement": {"block_idx": int(layer), "block_config": dict(block)}}:
            return checked_layer(file, layer), block
        case {"single_sequence_replacement": {"parent_layer_indices": [_, _, *_]}}:
            raise unreadable(file, "it replaces several layers at once, which a space of layers cannot say")
        case _:
            raise unreadable(
                file,
                "neither `single_sequence_replacement` nor `single_block_replacement` of one layer is in it",
            )


def _averages(raw: Mapping[str, Any]) -> dict[str, Decimal]:
    """Return metric -> mean, for every entry that has a mean."""
    averages = {
        name: value["avg"] for name, value in raw.items() if isinstance(value, dict) and "avg" in value
    }
    return {name: Decimal(avg) for name, avg in averages.items() if is_number(avg)}
