"""Models of `--json` outputs: about a program (diagnostics, spaces, changes, costs), about searches, and about the pipeline."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.changes.compare import Pieces
from puzzledsl.ir.tables import Assignment, Cost, TextCount
from puzzledsl.pipeline.process.locks import Holder
from puzzledsl.plan.memory.stage_plan import Choice


class Output(BaseModel):
    """Content of a document that is not read back. A field with a default may be absent."""

    model_config = ConfigDict(extra="forbid")


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
    """Mistakes and warnings of a program, by place."""

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


# ---------------------------------------------------------------- cost


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


# ---------------------------------------------------------------- answers


class AnswerSolution(Output):
    """One child. `metrics` in base units, with the batch of each scenario as `chat.batch`; `simulated`: latencies under traffic.

    `layers` ends with the choice of the model's ends where the space gives one.
    """

    objective: float
    layers: list[Assignment]
    metrics: dict[str, float]
    simulated: dict[str, float] = {}


class AnswerConflict(Output):
    """A requirement of a minimal conflict, and the best value that is reachable when the others are kept."""

    line: int
    text: str
    reachable: str


class Answer(Output):
    """Answer of a search with its proof. `bound` and `gap` are null for a heuristic; `refine`: settings of measuring children."""

    search: str
    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    objective: float | None
    bound: float | None
    gap: float | None
    seconds: float
    found_by: str
    proved_by: str
    solutions: list[AnswerSolution]
    conflict: list[AnswerConflict]
    refine: dict[str, Any] | None = None


class NotSolved(Output):
    """A search that could not be run, and why; `search` is empty if the program has mistakes."""

    search: str
    status: Literal["error"]
    diagnostics: list[OneDiagnostic]


class PointAnswer(Answer):
    """Answer at one point of a frontier; `target` in the base unit of the swept metric."""

    target: float


class FrontierAnswers(Output):
    """Points of a frontier."""

    frontier: str
    search: str
    points: list[PointAnswer]


class Address(Output):
    """Address of the page, with its token."""

    address: str


# ---------------------------------------------------------------- the pipeline


class TaskState(Output):
    """State of a task: done, or the reason why it is to be done."""

    stage: str
    name: str
    state: str
    why: str


class Status(Output):
    """All tasks, the process that works in the build directory, if any, and the texts that are tokenised, by declaration."""

    at_work: Holder | None
    tasks: list[TaskState]
    texts: dict[str, list[TextCount]]


class MemoryPlan(Output):
    """Memory of one part of a stage on each of `devices` devices, and on the host beside it, in bytes at the peak."""

    stage: str
    device_bytes: int
    parts: dict[str, int]
    host_bytes: int
    devices: int
    planned_seconds: float
    choices: list[Choice]
    fits: bool


class PlannedStep(TaskState):
    """A task that a run would do. `peak_bytes`: most memory of the process, or of each GPU; 0 where it holds no model.

    `from_log`: it took so long before. `runs`: runs of layers that a score measures.
    """

    seconds: float
    from_log: bool
    bytes: int
    scratch_bytes: int
    peak_bytes: int
    runs: int | None = None
    memory: list[MemoryPlan] | None = None


class PlannedDevice(Output):
    """The device that memory is planned for."""

    name: str
    count: int
    memory_bytes: int
    usable_bytes: int
    host_bytes: int
    dtype: str


class DryRun(Output):
    """Tasks that a run would do, with seconds and bytes of each, and of all."""

    steps: list[PlannedStep]
    done: int
    seconds: float
    bytes: int
    scratch_bytes: int
    peak_bytes: int
    free_bytes: int
    device: PlannedDevice


# ---------------------------------------------------------------- the library


class PieceRow(Output):
    """A piece. Losses are normalised MSE on held-out activations; `bytes` is null where the file is gone."""

    id: str
    bld: str
    layer: int
    sub_block: Literal["attention", "ffn", "block"]
    alternative: str
    loss_initial: float
    loss_final: float
    tokens: int
    bytes: int | None
    sha256: str


class Fault(Output):
    """A piece that is damaged or gone."""

    file: str
    reason: str


class Verified(Output):
    """Number of pieces, and those with faults."""

    pieces: int
    faults: list[Fault]


class Collected(Output):
    """Pieces and other files that no job needs; with `dry_run` they are still there."""

    removed: list[PieceRow]
    strays: list[str]
    bytes: int
    dry_run: bool
