"""Models of `--json` outputs about searches and the pipeline: answers, tasks, pieces."""

from __future__ import annotations

from typing import Any, Literal

from puzzledsl.cli.schemas.described import Output
from puzzledsl.cli.schemas.programs import OneDiagnostic
from puzzledsl.ir.tables import Assignment, TextCount
from puzzledsl.pipeline.process.locks import Holder
from puzzledsl.plan.memory.stage_plan import Choice

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


class Maker(Output):
    """The task that left a file. `inputs` are digests; `unchanged`: the file is as the task left it."""

    stage: str
    name: str
    made_by: str
    inputs: dict[str, str]
    unchanged: bool


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
