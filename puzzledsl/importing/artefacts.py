"""Puzzletron's files as they lie on disk (NVIDIA Model Optimizer, modelopt.torch.puzzletron), read and checked.

`subblock_stats.json`: a list of measurements, each with the `args` it was made at (batch, lengths, dtypes), what no layer changes
(`non_block`) and one entry a (sub-block configuration, layer). `…--validation/solution_N.json`: metrics of the parent with one
replacement, `teacher.json` those of the parent. Gathered metrics: one JSON of replacement -> metrics and stats, or of
layer -> option -> metrics and stats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeGuard

from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.importing.errors import ArtefactUnreadable, NothingToImport
from puzzledsl.ir.limits import MAX_LAYERS

STATS = "subblock_stats.json"
TEACHER = "teacher.json"
SOLUTIONS = "mip/puzzle_solutions/**/solutions.json"
HELP = "was it copied whole, and is it of this version of the tool?"
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Replacement:
    """One option of one layer as its tool writes it. `block`: its configuration; `stats`: where gathered with the metrics."""

    layer: int
    block: Mapping[str, Any]
    metrics: Mapping[str, Decimal]
    is_teacher: bool
    stats: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Artefacts:
    """Everything found. `args`: of the validation, where it is known."""

    path: Path
    replacements: list[Replacement] = field(default_factory=list)
    teacher_metrics: dict[str, Decimal] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    stats: list[Mapping[str, Any]] = field(default_factory=list)
    solutions: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


def read_artefacts(path: Path) -> Artefacts:
    """Find and read what is at `path`: a run's directory, its validation folder, or a JSON file. Raises DiagnosticError."""
    if not path.exists():
        raise DiagnosticError(NothingToImport(None, path=path, reason="it does not exist"))
    found = Artefacts(path)
    if path.is_file():
        _gathered(found, path)
        return found
    if (path / STATS).is_file():
        found.stats = list(_stats(path / STATS))
    folders = [path, *sorted(p for p in path.iterdir() if p.is_dir())]
    validation = next((f for f in folders if any(f.glob("*solution_*.json"))), None)
    gathered = sorted(path.glob("**/replacement_metrics_and_stats.json"))
    if validation is not None:
        _validation(found, validation)
    elif gathered:
        _gathered(found, gathered[0])
    else:
        reason = (
            "no `solution_*.json` in it or its folders"
            if found.stats
            else f"neither `{STATS}` nor `solution_*.json`"
        )
        raise DiagnosticError(NothingToImport(None, path=path, reason=reason))
    for file in sorted(path.glob(SOLUTIONS)):
        solutions = _json(file)
        for solution in solutions if isinstance(solutions, list) else []:
            if isinstance(solution, dict):
                found.solutions.append((file.parent.name, solution))
    return found


def _json(file: Path) -> Any:
    """A file's JSON, numbers as the decimals they are written as. Raises DiagnosticError."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise unreadable(file, "it is larger than any artefact")
        return json.loads(file.read_bytes(), parse_float=Decimal, parse_constant=Decimal)
    except OSError as error:
        raise unreadable(file, error.strerror or "not readable") from error
    except (ValueError, RecursionError) as error:
        raise unreadable(file, "it is no JSON") from error


def unreadable(file: Path, reason: str) -> DiagnosticError:
    """The error that ends an import at a damaged or foreign file."""
    return DiagnosticError(ArtefactUnreadable(None, path=file, reason=reason, help=HELP))


def _stats(file: Path) -> Iterator[Mapping[str, Any]]:
    entries = _json(file)
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
        raw = _json(file)
        solution = raw.get("puzzle_solution") if isinstance(raw, dict) else None
        if not isinstance(solution, dict):
            raise unreadable(file, "`puzzle_solution` is missing")
        layer, block = _placed(file, solution)
        found.replacements.append(Replacement(layer, block, _averages(raw), False))
    teacher = folder / TEACHER
    if teacher.is_file():
        raw = _json(teacher)
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
            return _layer(file, layer), block
        case {"single_block_replacement": {"block_idx": int(layer), "block_config": dict(block)}}:
            return _layer(file, layer), block
        case {"single_sequence_replacement": {"parent_layer_indices": [_, _, *_]}}:
            raise unreadable(file, "it replaces several layers at once, which a space of layers cannot say")
        case _:
            raise unreadable(
                file,
                "neither `single_sequence_replacement` nor `single_block_replacement` of one layer is in it",
            )


def _layer(file: Path, layer: int) -> int:
    if not 0 <= layer < MAX_LAYERS:
        raise unreadable(file, f"layer {str(layer)[:20]} is none of a model of up to {MAX_LAYERS} layers")
    return layer


def _averages(raw: Mapping[str, Any]) -> dict[str, Decimal]:
    """Metric -> its mean, of every entry that has one."""
    averages = {
        name: value["avg"] for name, value in raw.items() if isinstance(value, dict) and "avg" in value
    }
    return {name: Decimal(avg) for name, avg in averages.items() if is_number(avg)}


def is_number(value: object) -> TypeGuard[int | Decimal]:
    """True for a number of JSON, which may be infinite or none."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _gathered(found: Artefacts, file: Path) -> None:
    """One JSON with everything: replacement -> what it is, or layer -> option -> what it is."""
    raw = _json(file)
    if not isinstance(raw, dict) or not raw:
        raise unreadable(file, "an object of replacements is expected")
    for name, entry in raw.items():
        if not isinstance(entry, dict):
            raise unreadable(file, f"`{name[:60]}` is no object")
        if "metrics" in entry:
            match entry.get("parent_layer_indices", [entry.get("block_idx")]):
                case [int(layer)]:
                    found.replacements.append(_option(file, name, _layer(file, layer), entry))
                case _:
                    raise unreadable(file, f"`{name[:60]}` does not replace one layer")
            continue
        numbered = re.fullmatch(r"\D*([0-9]{1,9})\D*", name)
        if numbered is None:
            raise unreadable(file, f"`{name[:60]}` names no layer")
        layer = _layer(file, int(numbered.group(1)))
        for option, inner in entry.items():
            if not isinstance(inner, dict):
                raise unreadable(file, f"`{option[:60]}` of `{name[:60]}` is no object")
            found.replacements.append(_option(file, option, layer, inner))


def _option(file: Path, name: str, layer: int, entry: Mapping[str, Any]) -> Replacement:
    metrics, block = entry.get("metrics"), entry.get("block_config") or entry.get("child_block_configs")
    if isinstance(block, list) and len(block) == 1:
        block = block[0]
    if not isinstance(metrics, dict):
        raise unreadable(file, f"`{name[:60]}` has no `metrics`")
    numbers = {n: Decimal(v) for n, v in metrics.items() if is_number(v) and not n.startswith("one_minus_")}
    stats = entry.get("stats")
    return Replacement(
        layer,
        block if isinstance(block, dict) else {"name": name},
        numbers,
        bool(entry.get("is_teacher", False)),
        stats if isinstance(stats, dict) else {},
    )
