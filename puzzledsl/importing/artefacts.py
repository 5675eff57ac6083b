"""Read and check Puzzletron's files (NVIDIA Model Optimizer, modelopt.torch.puzzletron).

`subblock_stats.json`: a list of measurements, each with its `args` (batch, lengths, dtypes), the part that no layer
changes (`non_block`) and one entry per (sub-block configuration, layer). `…--validation/solution_N.json`: metrics of
the parent with one replacement; `teacher.json`: those of the parent. Gathered metrics, in one file: replacement -> metrics and
stats, or layer -> option -> metrics and stats; `measurement_info.json` beside them has the batch and the lengths.

Options of gathered metrics have a name and `stats` but no configuration: `attention = 8 kv heads (parent * 100%) && ffn = no_op
(…)`. The sizes are those in `stats` (`num_kv_heads`, `ffn_intermediate_size`; 0 for a no-op), since the name rounds widths. The
name says what 0 stands for, and must not contradict them.
"""

from __future__ import annotations

import re
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
    part_of,
    read_json,
    size_of,
    unreadable,
)

SIZES = {
    "attention": ("num_kv_heads", "num_key_value_heads"),
    "ffn": ("ffn_intermediate_size", "intermediate_size"),
}
"""Sub-block: its size in `stats`, and in a configuration."""
CORRECT = "correct the size in the file, or take the option out, and import again"
WIDTH_ROUNDED = re.compile(r"intermediate size [0-9.]+e[0-9]+")


def named_block(file: Path, name: str, stats: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of an option by its stats and its name. Raises DiagnosticError where these contradict each other."""
    block: dict[str, Any] = {"name": name}
    for part, (stat, key) in SIZES.items():
        named = part_of(block, part)
        if stat in stats:
            block[part] = _sized(file, name, named, stat, key, stats[stat])
        elif part == "ffn" and WIDTH_ROUNDED.search(name):
            raise unreadable(
                file, f"`{name[:60]}` has no `{stat}` in its `stats`, and its name rounds the width"
            )
    return block


def _sized(
    file: Path, name: str, named: Mapping[str, Any], stat: str, key: str, value: object
) -> Mapping[str, Any]:
    """One sub-block with the size in `stats`."""
    size = _whole(value)
    if size is None:
        raise unreadable(file, f"`{stat}` of `{name[:60]}` is no whole number from 0 on", CORRECT)
    here = f"`{name[:60]}` has `{stat}` {size}"
    if size == 0 and key in named:
        raise unreadable(file, f"{here}, but is no no-op by its name", CORRECT)
    if size == 0:
        return named or {"no_op": True}
    if "no_op" in named or "replace_with_linear" in named:
        raise unreadable(file, f"{here}, but none by its name", CORRECT)
    if named.get(key, size) != size:
        raise unreadable(file, f"{here}, but {named[key]} by its name", CORRECT)
    return {key: size}


def _whole(value: object) -> int | None:
    """A whole number from 0 on; None for anything else."""
    if not is_number(value) or not Decimal(value).is_finite() or value < 0 or value != int(value):
        return None
    return int(value)


def gathered(file: Path) -> Iterator[Replacement]:
    """The replacements of a file of gathered metrics. Raises DiagnosticError."""
    raw = read_json(file)
    if _is_unscored(raw):
        reason = "it is a library of replacements without metrics, which are gathered after scoring"
        raise unreadable(file, reason, "give the directory of the run that scored them")
    if not isinstance(raw, dict) or not raw:
        raise unreadable(file, "an object of replacements is expected")
    for name, entry in raw.items():
        if not isinstance(entry, dict):
            raise unreadable(file, f"`{name[:60]}` is no object")
        if "metrics" in entry:
            match entry.get("parent_layer_indices", [entry.get("block_idx")]):
                case [int(layer)]:
                    yield _option(file, name, checked_layer(file, layer), entry)
                case _:
                    raise unreadable(file, f"`{name[:60]}` does not replace one layer")
            continue
        numbered = re.fullmatch(r"\D*([0-9]{1,9})\D*", name)
        if numbered is None:
            raise unreadable(file, f"`{name[:60]}` names no layer")
        layer = checked_layer(file, int(numbered.group(1)))
        for option, inner in entry.items():
            if not isinstance(inner, dict):
                raise unreadable(file, f"`{option[:60]}` of `{name[:60]}` is no object")
            yield _option(file, option, layer, inner)


def _is_unscored(raw: object) -> bool:
    """True for the list of replacements that scoring starts from, alone or as the `entries` of an object."""
    entries = raw.get("entries") if isinstance(raw, dict) else raw
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and "parent_layer_indices" in first


def _option(file: Path, name: str, layer: int, entry: Mapping[str, Any]) -> Replacement:
    metrics, block = entry.get("metrics"), entry.get("block_config") or entry.get("child_block_configs")
    if isinstance(block, list) and len(block) == 1:
        block = block[0]
    if not isinstance(metrics, dict):
        raise unreadable(file, f"`{name[:60]}` has no `metrics`")
    numbers = {n: Decimal(v) for n, v in metrics.items() if is_number(v) and not n.startswith("one_minus_")}
    stats = entry.get("stats")
    stats = stats if isinstance(stats, dict) else {}
    if not isinstance(block, dict):
        block = named_block(file, name, stats)
    return Replacement(layer, block, numbers, bool(entry.get("is_teacher", False)), stats)


STATS = "subblock_stats.json"
TEACHER = "teacher.json"
SOLUTIONS = "mip/puzzle_solutions/**/solutions.json"
GATHERED = ("**/replacement_metrics_and_stats.json", "block_library.json")
MEASURED_AT = "measurement_info.json"


@dataclass(slots=True)
class Artefacts:
    """Artefacts of a run. `args`: of the validation, if known; `measured_at`: batch, length and dtype of gathered stats."""

    path: Path
    replacements: list[Replacement] = field(default_factory=list)
    teacher_metrics: dict[str, Decimal] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    measured_at: Mapping[str, Any] = field(default_factory=dict)
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
    in_one = [file for pattern in GATHERED for file in sorted(path.glob(pattern))]
    if validation is not None:
        _validation(found, validation)
    elif in_one:
        _gathered(found, in_one[0])
    else:
        reason = (
            "no `solution_*.json` in it or its folders"
            if found.stats
            else f"neither `{STATS}` nor `solution_*.json`"
        )
        raise DiagnosticError(NothingToImport(None, path=path, reason=reason))
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
        found.replacements.append(Replacement(layer, block, _averages(raw), False))
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


def _gathered(found: Artefacts, file: Path) -> None:
    """Everything in one file, and what its stats were measured at where that lies beside it."""
    found.replacements = list(gathered(file))
    measured_at = file.with_name(MEASURED_AT)
    if measured_at.is_file():
        raw = read_json(measured_at)
        if not isinstance(raw, dict):
            raise unreadable(measured_at, "an object of `batch_size` and `sequence_length` is expected")
        for key in ("batch_size", "sequence_length"):
            if key in raw and size_of(raw, key) is None:
                raise unreadable(measured_at, f"`{key}` is no whole number above 0")
        if not isinstance(raw.get("dtype", ""), str):
            raise unreadable(measured_at, "`dtype` is no text")
        found.measured_at = raw
