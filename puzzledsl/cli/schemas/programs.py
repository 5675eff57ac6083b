"""Models of `--json` outputs about a program: its diagnostics, its spaces, its changes, its costs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.changes.model import Pieces
from puzzledsl.cli.schemas.described import Output
from puzzledsl.ir.tables import Cost

# ---------------------------------------------------------------- diagnostics


class Place(Output):
    """A place in a text: 1-based, in code points. The end is exclusive."""

    line: int
    column: int


class Related(Output):
    """A second place of a diagnostic, or a note; a note has no place."""

    message: str
    file: str | None
    start: Place | None
    end: Place | None


class OneDiagnostic(Output):
    """One mistake or warning. `help`: the cure, empty where there is none."""

    code: str
    severity: Literal["error", "warning"]
    message: str
    file: str | None
    start: Place | None
    end: Place | None
    help: str
    related: list[Related]


class Diagnostics(Output):
    """Mistakes and warnings of a program, by place. `--format sarif` writes SARIF 2.1.0 in place of it."""

    format_version: str
    diagnostics: list[OneDiagnostic]


# ---------------------------------------------------------------- spaces


class AlternativeFacts(BaseModel):
    """An alternative. Sizes that its sub-block does not have are absent; `layers` are given where layers differ."""

    model_config = ConfigDict(extra="forbid")

    name: str
    heads: int | None = None
    kv_heads: int | None = None
    window: int | None = None
    width: int | None = None
    experts: int | None = None
    top_k: int | None = None
    params: int | None = None
    active_params: int | None = None
    rounded_from: dict[str, str] | None = None
    layers: list[int] | None = None


class LayerNames(Output):
    """Canonical names of the alternatives of one layer."""

    layer: int
    attention: list[str]
    ffn: list[str]


class ShownSpace(Output):
    """A space after its overrides. `waits_for`: the search that narrows it, while that is not solved.

    `ends`: the alternatives of the model's ends, where they have a choice.
    """

    name: str
    parent: str
    log10_children: float
    layers: list[LayerNames]
    alternatives: dict[Literal["attention", "ffn"], list[AlternativeFacts]]
    ends: dict[EndName, list[str]] | None = None
    waits_for: str | None = None


class Spaces(Output):
    """Spaces of a program."""

    spaces: list[ShownSpace]


# ---------------------------------------------------------------- changes


class ChangedDetail(Output):
    """A detail that differs: `old` is null for an addition, `new` for a removal."""

    what: str
    old: str | None
    new: str | None


class ChangedDeclaration(Output):
    """A declaration that differs."""

    action: Literal["add", "remove", "change"]
    kind: str
    name: str
    details: list[ChangedDetail]


class TaskName(Output):
    """Stage and declaration of a task."""

    stage: str
    name: str


class Counts(Output):
    """Numbers of changed declarations."""

    add: int
    change: int
    remove: int


class ProgramChanges(Output):
    """Differences between two programs, and the tasks that run again, in order."""

    format_version: str
    changes: list[ChangedDeclaration]
    pieces: dict[str, Pieces]
    again: list[TaskName]
    waiting: list[str]
    summary: Counts


# ---------------------------------------------------------------- cost, calibrate


class LayerCosts(Cost):
    """Choice and cost of one layer."""

    layer: int
    attention: str
    ffn: str


class CostBreakdown(Output):
    """A model's costs in one scenario. `metrics` in base units; `causes`: seconds by cause, null without a roofline."""

    model: str
    scenario: str
    hardware: str
    provenance: str
    batch: int
    prompt: int
    output: int
    metrics: dict[str, float]
    parent_metrics: dict[str, float]
    reserve_bytes: int
    parts: dict[str, Cost]
    causes: dict[Literal["prefill_s", "decode_s"], dict[str, float]] | None
    layers: list[LayerCosts]


class CellCounts(Output):
    """Numbers of measured cells."""

    fitted: int
    held_out: int


class CellErrors(Output):
    """Mean relative errors of the fitted profile; null without such cells."""

    fitted: float | None
    held_out: float | None


class Calibrated(Output):
    """A hardware profile whose constants were fitted to measured cells, and the file it was written to."""

    profile: str
    file: str
    constants: dict[str, float]
    cells: CellCounts
    error: CellErrors
