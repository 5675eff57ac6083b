"""The content of a Puzzletron run in the terms of this language, from JSON with exact numbers; and diagnostics E19xx."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeGuard, cast

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError, Sink
from puzzledsl.families.block_configs import from_entry
from puzzledsl.families.config import MAX_LAYERS, MAX_SIZE
from puzzledsl.ir.nodes import Shape


class NothingToImport(Diagnostic, code="E1901", template="there is nothing to import in `{path}`: {reason}"):
    """The path contains nothing that can be imported."""

    help_template = (
        "give a directory with `subblock_stats.json` and a `…--validation` folder of `solution_*.json` and `teacher.json`; "
        'of other forms write the figures as CSV: `score s of space = table("scores.csv")`'
    )


class ArtefactUnreadable(Diagnostic, code="E1902", template="cannot use `{path}`: {reason}"):
    """An artefact that is not JSON or differs from the format of its tool."""


class NotInTheLanguage(Diagnostic, code="E1903", template="{what} in `{path}` cannot be imported"):
    """An alternative that a `.pzl` space cannot express."""

    help_template = "leave these replacements out of the run's validation folder, and import again"


class NoConfigOfParent(Diagnostic, code="E1904", template="`{path}` has no config.json of the parent"):
    """A run without the parent's shape."""

    help_template = "give its directory: `--parent DIR`"


Pair = tuple[AttentionAlternative, FfnAlternative]


@dataclass(frozen=True, slots=True)
class SubBlockCost:
    """The cost of one sub-block, or of the part that no layer changes, in one measurement. `layer` None: in every layer.

    `figures`: by columns of `costs.csv`, such as `memory[MiB]`.
    """

    layer: int | None
    attention: AttentionAlternative | None
    ffn: FfnAlternative | None
    params: int | None
    figures: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One scenario. `name` is a valid identifier; lengths are in tokens."""

    name: str
    batch: int
    prompt: int
    output: int
    args: Mapping[str, Any]
    costs: tuple[SubBlockCost, ...]


@dataclass(slots=True)
class Imported:
    """The content of a run. `scores[metric][layer, (attention, ffn)]` is the degradation of the parent by that replacement."""

    source: Path
    shape: Shape
    parent: Path
    layers: list[dict[Pair, None]]
    scores: dict[str, dict[tuple[int, Pair], Decimal]] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    solutions: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    left_out: int = 0  # replacements whose metrics are not finite
    unanchored: dict[str, None] = field(
        default_factory=dict
    )  # metrics left out, the parent's own being unknown


HELP = "was it copied whole, and is it of this version of the tool?"
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Replacement:
    """One option of one layer as its tool writes it. `block`: its configuration."""

    layer: int
    block: Mapping[str, Any]
    metrics: Mapping[str, Decimal]


def read_json(file: Path) -> Any:
    """A file's JSON, numbers as the decimals they are written as. Raises DiagnosticError."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise unreadable(file, "it is larger than any artefact")
        return json.loads(file.read_bytes(), parse_float=Decimal, parse_constant=Decimal)
    except OSError as error:
        raise unreadable(file, error.strerror or "not readable") from error
    except (ValueError, RecursionError) as error:
        raise unreadable(file, "it is no JSON") from error


def unreadable(file: Path, reason: str, help: str = HELP) -> DiagnosticError:
    """The error that ends an import at a damaged or foreign file."""
    return DiagnosticError(ArtefactUnreadable(None, path=file, reason=reason, help=help))


def checked_layer(file: Path, layer: int) -> int:
    """A layer that a model may have. Raises DiagnosticError."""
    if not 0 <= layer < MAX_LAYERS:
        raise unreadable(file, f"layer {str(layer)[:20]} is none of a model of up to {MAX_LAYERS} layers")
    return layer


def is_number(value: object) -> TypeGuard[int | Decimal]:
    """True for a number of JSON, which may be infinite or none."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def part_of(block: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """Return a block's attention or FFN configuration, also of a list of entries with a `kind`: `mamba` is an attention."""
    config, listed = block.get(part), block.get("subblock_configs")
    if isinstance(config, dict):
        return config
    if not isinstance(listed, list):
        return {}
    kinds = {"attention": ("attention", "mamba"), "ffn": ("ffn", "moe")}[part]
    for entry in listed:
        if isinstance(entry, dict) and (kind := entry.get("kind")) in kinds:
            return entry if kind == part else {kind: entry, **entry}
    return {"no_op": True}


def size_of(sizes: Mapping[str, Any], key: str) -> int | None:
    """Return a size between 1 and MAX_SIZE; None for any other value."""
    value = sizes.get(key)
    return value if type(value) is int and 1 <= value <= MAX_SIZE else None


@dataclass(slots=True)
class Naming:
    """Configurations to alternatives. What has no words here goes to `sink`, each kind once."""

    path: Path
    shape: Shape
    sink: Sink = field(default_factory=Sink)

    def pair(self, block: Mapping[str, Any], layer: int | None = None) -> Pair | None:
        """A block, of a layer if it is known; None (reported) for one that this language cannot say."""
        if block.get("parallel_blocks"):
            self._cannot("a block of parallel blocks")
            return None
        attention, ffn = (
            self.attention(part_of(block, "attention"), layer),
            self.ffn(part_of(block, "ffn"), layer),
        )
        return None if attention is None or ffn is None else (attention, ffn)

    def attention(self, config: Mapping[str, Any], layer: int | None = None) -> AttentionAlternative | None:
        """An attention configuration."""
        own = self._own(layer)
        entry = _flags(config)
        if not any(entry.values()):
            for kind in ("mamba", "llama4"):
                if config.get(kind):
                    self._cannot(f"a {kind} attention")
                    return None
            group = size_of(config, "n_heads_in_group")
            heads = size_of(config, "num_key_value_heads") or size_of(config, "num_kv_heads")
            if heads is None and group is not None and not own.heads % group:
                heads = own.heads // group
            if heads is None or own.heads % heads:
                self._cannot("an attention without KV heads" if heads is None else f"{heads} KV heads")
                return None
            entry["n_heads_in_group"] = own.heads // heads
        return cast(AttentionAlternative, from_entry("attention", entry, own))

    def ffn(self, config: Mapping[str, Any], layer: int | None = None) -> FfnAlternative | None:
        """An FFN configuration."""
        entry = _flags(config)
        if not any(entry.values()):
            if config.get("moe"):
                self._cannot("a mixture of experts")
                return None
            width = size_of(config, "intermediate_size")
            if width is None:
                self._cannot("an FFN without a width")
                return None
            entry["intermediate_size"] = width
        return cast(FfnAlternative, from_entry("ffn", entry, self._own(layer)))

    def _own(self, layer: int | None) -> Shape:
        return self.shape if layer is None or layer >= self.shape.layers else self.shape.at(layer)

    def _cannot(self, what: str) -> None:
        self.sink.add(NotInTheLanguage(None, what=what, path=self.path))


def _flags(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: bool(config.get(key)) for key in ("no_op", "replace_with_linear")}


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
                if not all(
                    isinstance(s, dict) and isinstance(s.get("subblock_config"), dict) for s in sub_blocks
                ):
                    raise unreadable(file, f"a sub-block of measurement {number} has no `subblock_config`")
            case _:
                raise unreadable(file, f"measurement {number} is of another kind")
        yield entry


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
